{%- import "common/element.wgsl" as elements -%}
// Sums parts in their order:
//
//   out[b, h, t, d] = Σ_i parts[(b H + h) line + i part + t width + d]  (+ out[b, h, t, d], of f32)
//
// One invocation per element, neighbours along d. Reads 4 bytes per part and element, and is bound by that.

struct Params {
  count: u32,        // elements
  heads: u32,
  steps: u32,
  width: u32,
  parts: u32,
  line_stride: u32,
  part_stride: u32,
  parts_at: u32,     // words of scratch
  out_at: u32, out_batch: u32, out_head: u32, out_time: u32, out_width: u32,
  goes_on: u32,      // 1: out holds the sum of earlier parts
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("out") }}
{%- endif %}

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
  let d = i % params.width;
  let t = i / params.width % params.steps;
  let line = i / params.width / params.steps;
  let first = params.parts_at + line * params.line_stride + t * params.width + d;
  let place = params.out_at + line / params.heads * params.out_batch
    + line % params.heads * params.out_head + t * params.out_time + d * params.out_width;
  var sum = 0.0;
{%- if element == "f32" %}
  if (params.goes_on != 0u) {
    sum = bitcast<f32>(out[place]);
  }
{%- endif %}
  for (var part = 0u; part < params.parts; part++) {
    sum += bitcast<f32>(scratch[first + part * params.part_stride]);
  }
{%- if element == "f32" %}
  out[place] = rounded(sum);
{%- else %}
  let shift = (place & 1u) * 16u;
  store_masked_out(place >> 1u, rounded(sum) << shift, 0xffffu << shift);
{%- endif %}
}
