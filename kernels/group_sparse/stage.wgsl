{%- import "group_sparse/numbers.wgsl" as numbers -%}
// Group-sparse products, the vectors as `product` reads them: in f32, with those of a run side by side,
//
//   staged[run][k][v] = x[run vectors + v][perm[k]]     (perm[k] = k where there is none)
//
// and 0 where there is no such column or vector, so that what lies behind x reaches nobody. One invocation per
// number, neighbours along k. Moves 6 to 12 bytes of each and is bound by that.

struct Params {
  count: u32,      // numbers: vectors of all runs times staged columns
  staged: u32,     // columns, with those behind the last
  columns: u32,    // of x
  run: u32,        // vectors of a run
  vectors: u32,    // that x has
  kind: u32,       // of x
  x_at: u32,
  x_stride: u32,
  has_perm: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> perm: array<u32>;
@group(0) @binding(3) var<storage, read_write> staged: array<f32>;
{{ numbers.widened() }}
{{ numbers.load("x") }}

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
  let vector = i / params.staged;
  let k = i % params.staged;
  var value = 0.0;
  if (k < params.columns && vector < params.vectors) {
    var column = k;
    if (params.has_perm != 0u) {
      column = perm[k];
    }
    value = load_x(params.kind, params.x_at + vector * params.x_stride + column);
  }
  let run = vector / params.run;
  staged[(run * params.staged + k) * params.run + vector % params.run] = value;
}
