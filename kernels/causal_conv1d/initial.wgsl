{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activations -%}
{%- import "causal_conv1d/rows.wgsl" as rows -%}
// Causal convolution, backward: the gradient of the initial state; {{ element }}.
//
//   ds0_k = Σ_t weight e_t, for the taps by which step t meets entry k of the state
//           (+ dfinal_{k - L} where the row is so short that its final state still holds entry k)
//
// One invocation per (row, channel, entry): it finds e of the first steps once more. Little work.
{{ rows.params() }}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> dout: array<u32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(4) var<storage, read_write> ds0: array<u32>;
{{ elements.load(element, "x") }}
{{ elements.load(element, "dout") }}
{{ rows.row() }}
{{ activations.exp_accurate() }}
{{ rows.e() }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z)) * {{ block[0] }}u + thread;
  let history = params.width - 1u;
  let line = i / history;
  let count = select(params.entries, params.sequences, has(PACKED));
  if (line >= count * params.channels) {
    return;
  }
  let row = row(line / params.channels);
  let channel = line % params.channels;
  let k = i % history;
  let length = row.end - row.start;
  var sum = 0.0;
  if (has(HAS_DFINAL) && k >= length) {
    sum = state(params.dfinal_at, row, channel, k - length);
  }
  for (var step = 0u; step < min(length, k + 1u); step++) {
    let distance = step + history - k;
    let t = row.start + step;
    if (((mask_at(row, t) >> distance) & 1u) != 0u) {
      sum = fma(weight(channel, distance), e_at(row, channel, t), sum);
    }
  }
  ds0[params.state_at + i] = bitcast<u32>(sum);
}
