{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activations -%}
{%- import "causal_conv1d/rows.wgsl" as rows -%}
// Causal convolution, forward; {{ element }}.
//
//   out_t = activation(bias + Σ_{d < W} weight_{W-1-d} x_{t-d})
//
// An invocation takes {% if element == "f32" %}one element of out{% else %}one word of out, two elements of its fastest axis{% endif %}; neighbours take neighbours, so that loads and stores
// are coalesced along time (BDL) or along channels (BLD) alike. The W loads of x overlap those of its
// neighbours, or of its neighbours in time, and come from the cache. No workgroup memory.
// Moves 2 elements per (b, d, l); bound by memory.
{{ rows.params() }}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
{{ elements.load(element, "x") }}
{{ rows.row() }}
{{ activations.exp_accurate() }}
{{ activations.silu() }}
{{ rows.stores(element) }}

fn out_value(entry: u32, channel: u32, t: u32) -> f32 {
  let row = row_at(entry, t);
  let mask = mask_at(row, t);
  let sum = sum_of_taps(row, channel, t, mask);
  let value = select(sum, silu(sum), has(SILU));
  return select(value, 0.0, mask == 0u);
}

// Element i of the fastest axis in a line of the two others.
fn element_value(line: u32, i: u32) -> f32 {
  if (has(CHANNEL_LAST)) {
    return out_value(line / params.steps, i, line % params.steps);
  }
  return out_value(line / params.channels, line % params.channels, i);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = (workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z)) * {{ block[0] }}u + thread;
  let slow = select(params.channels, params.steps, has(CHANNEL_LAST));
  let length = select(params.steps, params.channels, has(CHANNEL_LAST));
{%- if element == "f32" %}
  let of_line = length;
{%- else %}
  let of_line = length / 2u + 1u;
{%- endif %}
  let line = id / of_line;
  let j = id % of_line;
  if (line >= params.entries * slow) {
    return;
  }
  let slow_stride = select(params.y_channel, params.y_time, has(CHANNEL_LAST));
  let at = params.y_at + (line / slow) * params.y_batch + (line % slow) * slow_stride;
{%- if element == "f32" %}
  y[at + j] = rounded(element_value(line, j));
{%- else %}
  // Words of the line: the first and the last may belong to it by half.
  let odd = at & 1u;
  let i = 2u * j;
  let low = i >= odd && i - odd < length;
  let high = i + 1u - odd < length;
  var first = 0.0;
  var second = 0.0;
  if (low) {
    first = element_value(line, i - odd);
  }
  if (high) {
    second = element_value(line, i + 1u - odd);
  }
  store_halves((at >> 1u) + j, first, second, low, high);
{%- endif %}
}
