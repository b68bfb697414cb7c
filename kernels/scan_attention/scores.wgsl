{%- import "scan_attention/lines.wgsl" as lines -%}
// Scan attention, scores from keys: s[t] = scale (q . k[t]); {{ element }}.
//
// A workgroup of 32 takes 32 steps of one head: each invocation two neighbouring features of 64 at a time,
// and in the end the score of one step. The products meet in workgroup memory [step][invocation], with an
// odd stride that keeps the banks apart.
// Moves {{ 4 if element == "f32" else 2 }} bytes per (key feature, step), and is bound by that.

struct Params {
  heads: u32,
  group: u32,        // heads that share keys
  steps: u32,
  width: u32,
  tiles: u32,
  count: u32,        // workgroups with work
  scale: f32,
  k_at: u32, k_batch: u32, k_head: u32, k_time: u32,
  q_at: u32,         // words of scratch
  scores_at: u32,    // elements of scores
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> k: array<u32>;
@group(0) @binding(2) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
{{ lines.load_pair(element, "k") }}

var<workgroup> parts: array<f32, {{ 32 * 33 }}>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.count) {
    return;
  }
  let tile = id % params.tiles * 32u;
  let line = id / params.tiles;
  let entry = line / params.heads;
  let head = line % params.heads;
  let first = params.k_at + entry * params.k_batch + (head / params.group) * params.k_head;
  var sum = 0.0;
  for (var block = 0u; block < params.width; block += 64u) {
    let column = block + 2u * thread;
    let count = min(2u, max(params.width, column) - column);
    var query = vec2<f32>();
    for (var f = 0u; f < count; f++) {
      query[f] = bitcast<f32>(scratch[params.q_at + head * params.width + column + f]);
    }
{%- for i in range(32) %}
    {
      var key = vec2<f32>();
      if (tile + {{ i }}u < params.steps) {
        key = pair_k(first + (tile + {{ i }}u) * params.k_time + column, count);
      }
      parts[{{ i * 33 }}u + thread] = key.x * query.x + key.y * query.y;
    }
{%- endfor %}
    workgroupBarrier();
{%- for i in range(32) %}
    sum += parts[thread * 33u + {{ i }}u];
{%- endfor %}
    workgroupBarrier();
  }
  if (tile + thread < params.steps) {
    scores[params.scores_at + line * params.steps + tile + thread] = bitcast<u32>(params.scale * sum);
  }
}
