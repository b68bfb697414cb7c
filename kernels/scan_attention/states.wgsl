// Scan attention, gradients of the carry in: du0 = sum of the parts, dm0 = u0 du0 + w0 . dw0. One
// invocation per (row, head). Reads 8 bytes per feature and is bound by that.

struct Params {
  lines: u32,        // rows times heads
  width: u32,
  columns: u32,
  // Words of scratch.
  u0_at: u32,
  w0_at: u32,
  y_at: u32,         // (column blocks, lines)
  x_at: u32,         // dw0
  dm0_at: u32,
  du0_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scratch: array<u32>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let line = id * {{ block[0] }}u + thread;
  if (line >= params.lines) {
    return;
  }
  var du = 0.0;
  for (var block = 0u; block < params.columns; block++) {
    du += bitcast<f32>(scratch[params.y_at + block * params.lines + line]);
  }
  var product = bitcast<f32>(scratch[params.u0_at + line]) * du;
  for (var d = 0u; d < params.width; d++) {
    let i = line * params.width + d;
    product += bitcast<f32>(scratch[params.w0_at + i]) * bitcast<f32>(scratch[params.x_at + i]);
  }
  scratch[params.dm0_at + line] = bitcast<u32>(product);
  scratch[params.du0_at + line] = bitcast<u32>(du);
}
