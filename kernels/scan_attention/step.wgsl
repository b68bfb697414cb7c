{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "scan_attention/tile.wgsl" as tile -%}
// Scan attention, one token: the state of a slot is joined with it, in place; {{ element }}.
//
//   s = scale q . k, or given;  m' = max(m, s);  u' = u exp(m - m') + exp(s - m');  w' likewise with v;  o = w' / u'
//
// One invocation per (token, head). Slots out of bounds and negative ones are padding: o = 0, no state is
// touched. Moves {{ 16 if element == "f32" else 12 }} bytes per value feature and is bound by latency.

struct Params {
  count: u32,        // tokens times heads
  heads: u32,
  group: u32,        // heads that share keys and values
  key_width: u32,
  width: u32,
  slots: u32,
  flags: u32,
  scale: f32,
  keys_at: u32,      // elements of keys: scores, or k
  v_at: u32,
  o_at: u32,
  m_at: u32, u_at: u32, w_at: u32,
  q_at: u32, from_at: u32, to_at: u32,   // words of scratch
}

const FROM_KEYS: u32 = 1u;
const NARROW_SCORES: u32 = 2u;
const HAS_FROM: u32 = 4u;
const HAS_TO: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> v: array<u32>;
@group(0) @binding(3) var<storage, read_write> o: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(4) var<storage, read_write> m: array<u32>;
@group(0) @binding(5) var<storage, read_write> u: array<u32>;
@group(0) @binding(6) var<storage, read_write> w: array<u32>;
@group(0) @binding(7) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ tile.numbers() }}
{{ elements.load(element, "keys") }}
{{ elements.load(element, "v") }}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("o") }}
{%- endif %}

fn put_o(i: u32, value: f32) {
{%- if element == "f32" %}
  o[i] = rounded(value);
{%- else %}
  let shift = (i & 1u) * 16u;
  store_masked_o(i >> 1u, rounded(value) << shift, 0xffffu << shift);
{%- endif %}
}

fn score(i: u32, shared_line: u32, head: u32) -> f32 {
  if (has(FROM_KEYS)) {
    var sum = 0.0;
    for (var d = 0u; d < params.key_width; d++) {
      let query = bitcast<f32>(scratch[params.q_at + head * params.key_width + d]);
      sum += query * load_keys(params.keys_at + shared_line * params.key_width + d);
    }
    return params.scale * sum;
  }
  if (has(NARROW_SCORES)) {
    return max(load_keys(params.keys_at + i), LEAST);
  }
  let bits = keys[params.keys_at + i];
  return select(bitcast<f32>(bits), LEAST, bits == MINUS_INFINITY);
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
  let b = i / params.heads;
  let head = i % params.heads;
  let shared_line = b * (params.heads / params.group) + head / params.group;
  var read = b;
  if (has(HAS_FROM)) {
    read = scratch[params.from_at + b];
  }
  var write = read;
  if (has(HAS_TO)) {
    write = scratch[params.to_at + b];
  }
  if (read >= params.slots || write >= params.slots) {
    for (var d = 0u; d < params.width; d++) {
      put_o(params.o_at + i * params.width + d, 0.0);
    }
    return;
  }
  let source = read * params.heads + head;
  let place = write * params.heads + head;
  let s = score(i, shared_line, head);
  let bits = m[params.m_at + source];
  let before = select(bitcast<f32>(bits), LEAST, bits == MINUS_INFINITY);
  let largest = max(before, s);
  let keep = exp_below(before, largest);
  let weight = exp_below(s, largest);
  let total = bitcast<f32>(u[params.u_at + source]) * keep + weight;
  let inverse = select(1.0 / total, 0.0, total == 0.0);
  m[params.m_at + place] = bits_of(largest);
  u[params.u_at + place] = bitcast<u32>(total);
  for (var d = 0u; d < params.width; d++) {
    let value = load_v(params.v_at + shared_line * params.width + d);
    let sum = bitcast<f32>(w[params.w_at + source * params.width + d]) * keep + weight * value;
    w[params.w_at + place * params.width + d] = bitcast<u32>(sum);
    put_o(params.o_at + i * params.width + d, sum * inverse);
  }
}
