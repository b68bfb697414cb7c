{%- import "common/element.wgsl" as elements -%}
{%- import "scan_attention/lines.wgsl" as lines -%}
// Scan attention, gradients of keys and queries from those of the scores; {{ element }}.
//
//   dk[t] = scale sum over the heads of a group of ds[h, t] q[h];  dq[h] = scale sum over t of ds[h, t] k[t]
//
// One invocation per two neighbouring key features of 32 steps, for all heads of a group. Its part of dq is
// one of as many as there are tiles; they are summed afterwards.
// Moves {{ 8 if element == "f32" else 4 }} bytes per (key feature, step), keys from the cache once per head, and is bound by that.

struct Params {
  key_heads: u32,
  group: u32,        // heads that share keys
  steps: u32,
  width: u32,
  pairs: u32,        // of features
  tiles: u32,
  count: u32,        // invocations with work
  ds_parts: u32,
  ds_part: u32,      // from part to part
  scale: f32,
  k_at: u32, k_batch: u32, k_head: u32, k_time: u32,
  dk_at: u32, dk_batch: u32, dk_head: u32, dk_time: u32,
  q_at: u32, ds_at: u32, dq_at: u32,   // words of scratch
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> k: array<u32>;
@group(0) @binding(2) var<storage, read_write> dk: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
{{ lines.load_pair(element, "k") }}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("dk") }}
{%- endif %}
{{ lines.store_pair(element, "dk") }}

// scale ds, from its parts in their order.
fn gradient(line: u32, time: u32) -> f32 {
  var sum = 0.0;
  for (var part = 0u; part < params.ds_parts; part++) {
    sum += bitcast<f32>(scratch[params.ds_at + part * params.ds_part + line * params.steps + time]);
  }
  return params.scale * sum;
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let i = id * {{ block[0] }}u + thread;
  if (i >= params.count) {
    return;
  }
  let column = 2u * (i % params.pairs);
  let tile = i / params.pairs % params.tiles;
  let shared_line = i / params.pairs / params.tiles;
  let entry = shared_line / params.key_heads;
  let key_head = shared_line % params.key_heads;
  let heads = params.key_heads * params.group;
  let head = key_head * params.group;
  let count = min(2u, params.width - column);
  let end = min(params.steps, tile * 32u + 32u);
  let k_first = params.k_at + entry * params.k_batch + key_head * params.k_head + column;
  let dk_first = params.dk_at + entry * params.dk_batch + key_head * params.dk_head + column;
  for (var t = tile * 32u; t < end; t++) {
    var sum = vec2<f32>();
    for (var member = 0u; member < params.group; member++) {
      let ds = gradient(entry * heads + head + member, t);
      for (var f = 0u; f < count; f++) {
        sum[f] += ds * bitcast<f32>(scratch[params.q_at + (head + member) * params.width + column + f]);
      }
    }
    put_pair_dk(dk_first + t * params.dk_time, count, sum);
  }
  for (var member = 0u; member < params.group; member++) {
    var sum = vec2<f32>();
    for (var t = tile * 32u; t < end; t++) {
      let ds = gradient(entry * heads + head + member, t);
      sum += ds * pair_k(k_first + t * params.k_time, count);
    }
    let part = (entry * params.tiles + tile) * heads + head + member;
    for (var f = 0u; f < count; f++) {
      scratch[params.dq_at + part * params.width + column + f] = bitcast<u32>(sum[f]);
    }
  }
}
