{%- import "common/activation.wgsl" as activation -%}
{%- import "common/element.wgsl" as elements -%}
{%- import "cross_entropy/rows.wgsl" as rows -%}
// Cross entropy, what some columns tell of a token: the largest logit m, s = sum of exp(z - m), the target's logit
// and the sum of z; {{ element }}.
//
// {{ lanes }} invocations have a row, or a part of one: lane l takes {{ "columns" if element == "f32" else "words of two columns" }} l, l + {{ lanes }}, ..., four logits at a time.
// Workgroup memory: what each invocation has seen, {{ 12 * block[0] }} bytes, which are merged as a tree.
// Reads each logit once, and the target's again; bound by that.

struct Params {
  workgroups: u32,     // with work
  rows: u32,           // of this launch
  first_row: u32,      // among the tokens
  tokens: u32,
  width: u32,          // columns
  first: u32,          // the first one's place in the vocabulary
  parts: u32,          // of a row
  part_columns: u32,
  logits_at: u32,
  logits_stride: u32,
  statistics_at: u32,  // (parts, tokens, 4)
  softcap: f32,        // 0: none
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> statistics: array<f32>;
{{ activation.exp_accurate() }}
{{ rows.capped() }}
{{ rows.told() }}
{{ elements.load(element, "logits") }}

var<workgroup> largest: array<f32, {{ block[0] }}>;
var<workgroup> powers: array<f32, {{ block[0] }}>;
var<workgroup> sums: array<f32, {{ block[0] }}>;

// Takes in four logits, or those of them that are there.
fn taken(told: Told, z: vec4<f32>, there: vec4<bool>) -> Told {
  let known = select(vec4<f32>(LEAST), z, there);
  let m = max(max(told.m, max(known.x, known.y)), max(known.z, known.w));
  var s = told.s * exp_accurate(told.m - m);
  for (var i = 0u; i < 4u; i++) {
    s += select(0.0, exp_accurate(known[i] - m), there[i]);
  }
  return Told(m, s, told.at_target, told.sum + dot(select(vec4<f32>(), z, there), vec4<f32>(1.0)));
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.workgroups) {
    return;
  }
  let lane = thread % {{ lanes }}u;
  let unit = id * {{ block[0] // lanes }}u + thread / {{ lanes }}u;
  let row = unit / params.parts;
  let part = unit % params.parts;
  let begin = part * params.part_columns;
  var count = 0u;
  if (row < params.rows) {
    count = min(params.width - begin, params.part_columns);
  }
  let line = params.logits_at + row * params.logits_stride + begin;
  var told = Told(LEAST, 0.0, 0.0, 0.0);
{%- if element == "f32" %}
  for (var column = lane; column < count; column += {{ 4 * lanes }}u) {
    var z = vec4<f32>();
    var there = vec4<bool>();
    for (var i = 0u; i < 4u; i++) {
      there[i] = column + i * {{ lanes }}u < count;
      if (there[i]) {
        z[i] = capped(load_logits(line + column + i * {{ lanes }}u)).x;
      }
    }
    told = taken(told, z, there);
  }
{%- else %}
  // Words that the row has a half of.
  let end = line + count;
  for (var word = (line >> 1u) + lane; 2u * word < end; word += {{ 2 * lanes }}u) {
    var z = vec4<f32>();
    var there = vec4<bool>();
    for (var i = 0u; i < 4u; i++) {
      let element = 2u * (word + (i >> 1u) * {{ lanes }}u) + (i & 1u);
      there[i] = element >= line && element < end;
      if (there[i]) {
        z[i] = capped(load_logits(element)).x;
      }
    }
    told = taken(told, z, there);
  }
{%- endif %}
  largest[thread] = told.m;
  powers[thread] = told.s;
  sums[thread] = told.sum;
  for (var apart = {{ lanes // 2 }}u; apart > 0u; apart >>= 1u) {
    workgroupBarrier();
    if (lane < apart) {
      let other = Told(largest[thread + apart], powers[thread + apart], 0.0, sums[thread + apart]);
      told = merged(told, other);
      largest[thread] = told.m;
      powers[thread] = told.s;
      sums[thread] = told.sum;
    }
  }
  if (lane != 0u || row >= params.rows) {
    return;
  }
  let token = params.first_row + row;
  let at = columns[token] - params.first - begin;
  if (at < count) {
    told.at_target = capped(load_logits(line + at)).x;
  }
  let to = params.statistics_at + 4u * (part * params.tokens + token);
  statistics[to] = told.m;
  statistics[to + 1u] = told.s;
  statistics[to + 2u] = told.at_target;
  statistics[to + 3u] = told.sum;
}
