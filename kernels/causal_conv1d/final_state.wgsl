{%- import "common/element.wgsl" as elements -%}
{%- import "causal_conv1d/rows.wgsl" as rows -%}
// The state behind the last step of each row of a convolution: the last W - 1 entries of the initial
// state and x together, as f32. One invocation per number; bound by its own stores.
{{ rows.params() }}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(3) var<storage, read_write> final_state: array<u32>;
{{ elements.load(element, "x") }}
{{ rows.row() }}

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
  // Entry k lies W - 1 - k before the step behind the last.
  let value = met(row, line % params.channels, row.end, history - i % history);
  final_state[params.state_at + i] = bitcast<u32>(value);
}
