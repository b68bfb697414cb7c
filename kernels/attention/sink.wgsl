{%- import "common/activation.wgsl" as activation -%}
{%- import "attention/scores.wgsl" as scores -%}
// Attention, backward: the gradient of sinks, dsink = -sum exp(sink - lse) delta over the rows of a head.
//
// A workgroup of 64 has a head: each invocation every 64th row, in their order, and their sums meet in workgroup
// memory, 256 bytes. Moves 8 bytes per row, and is bound by that.

struct Params {
  workgroups: u32,   // heads
  batch: u32,
  queries: u32,
  // Words of scratch.
  lse_at: u32, delta_at: u32, sink_at: u32, dsink_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scratch: array<u32>;
{{ activation.exp_accurate() }}
{{ scores.numbers() }}

var<workgroup> pieces: array<f32, 64>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let head = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (head >= params.workgroups) {
    return;
  }
  let sink = number_at(params.sink_at + head);
  var sum = 0.0;
  for (var row = thread; row < params.batch * params.queries; row += 64u) {
    let number = (row / params.queries * params.workgroups + head) * params.queries + row % params.queries;
    // A sink belongs to the rows' sums: it is below their lse.
    sum -= exp_below(sink, number_at(params.lse_at + number)) * bitcast<f32>(scratch[params.delta_at + number]);
  }
  pieces[thread] = sum;
  workgroupBarrier();
  if (thread == 0u) {
    var all = 0.0;
    for (var i = 0u; i < 64u; i++) {
      all += pieces[i];
    }
    scratch[params.dsink_at + head] = bitcast<u32>(all);
  }
}
