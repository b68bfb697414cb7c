// Scan attention, second pass of the chunked backward: carries x and y back over the chunks.
//
//   x = dw;  for each chunk from the last one:  behind = x;  x = front + fade x
//
// and so y. One invocation per (row, head, feature); a head without features has one. The first of 64
// features carries their y as well. Moves 8 bytes per (row, head, chunk, feature) and is bound by that.

struct Params {
  count: u32,        // invocations with work
  lines: u32,        // rows times heads
  width: u32,
  chunks: u32,
  flags: u32,        // 64 du is there, 128 dw is
  // Words of scratch.
  du_at: u32, dw_at: u32,
  x_at: u32,         // (rows, H, chunks, Dv): first what leaves a chunk at its front, then what comes from behind
  y_at: u32,         // (column blocks, rows, H, chunks), likewise
  fades_at: u32,     // (rows, H, chunks); 0 where the chunk is cut
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
  let i = id * {{ block[0] }}u + thread;
  if (i >= params.count) {
    return;
  }
  let per_line = max(params.width, 1u);
  let line = i / per_line;
  let d = i % per_line;
  let has_feature = params.width > 0u;
  let has_y = d % 64u == 0u;
  var x = 0.0;
  var y = 0.0;
  if ((params.flags & 128u) != 0u && has_feature) {
    x = bitcast<f32>(scratch[params.dw_at + line * params.width + d]);
  }
  if ((params.flags & 64u) != 0u && d == 0u) {
    y = bitcast<f32>(scratch[params.du_at + line]);
  }
  for (var turn = params.chunks; turn > 0u; turn--) {
    let state = line * params.chunks + turn - 1u;
    let fade = bitcast<f32>(scratch[params.fades_at + state]);
    if (has_feature) {
      let place = params.x_at + state * params.width + d;
      let front = bitcast<f32>(scratch[place]);
      scratch[place] = bitcast<u32>(x);
      x = select(x * fade, 0.0, fade == 0.0) + front;
    }
    if (has_y) {
      let place = params.y_at + d / 64u * params.lines * params.chunks + state;
      let front = bitcast<f32>(scratch[place]);
      scratch[place] = bitcast<u32>(y);
      y = select(y * fade, 0.0, fade == 0.0) + front;
    }
  }
}
