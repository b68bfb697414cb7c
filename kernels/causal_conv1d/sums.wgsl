// Second stage of the convolution's sums: adds up what the spans have left, in their order.
//
//   dweight[d][W - 1 - j] = Σ_p parts[p][j][d],  j < W;   dbias[d] = Σ_p parts[p][W][d]
//
// One invocation per (j, d), neighbours along the channels. Reads 4 bytes per part and number and is
// bound by that; it is small against the first stage.

struct Params {
  count: u32,
  channels: u32,
  width: u32,
  dweight_at: u32,
  dbias_at: u32,
  flags: u32,      // 1: dweight is wanted; 2: dbias
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<u32>;    // (count, W + 1, D)
@group(0) @binding(2) var<storage, read_write> dweight: array<u32>;  // (D, W)
@group(0) @binding(3) var<storage, read_write> dbias: array<u32>;    // (D)

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z)) * {{ block[0] }}u + thread;
  let numbers = (params.width + 1u) * params.channels;
  if (i >= numbers) {
    return;
  }
  var sum = 0.0;
  for (var part = 0u; part < params.count; part++) {
    sum += bitcast<f32>(parts[part * numbers + i]);
  }
  let j = i / params.channels;
  let channel = i % params.channels;
  if (j == params.width) {
    if ((params.flags & 2u) != 0u) {
      dbias[params.dbias_at + channel] = bitcast<u32>(sum);
    }
  } else if ((params.flags & 1u) != 0u) {
    dweight[params.dweight_at + channel * params.width + (params.width - 1u - j)] = bitcast<u32>(sum);
  }
}
