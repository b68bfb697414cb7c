{%- import "common/element.wgsl" as elements -%}
{%- import "attention/lines.wgsl" as lines -%}
// Attention, backward: row terms, delta = dout . out - dlse, 0 where nothing was seen; {{ element }}.
//
// A workgroup of 64 has 8 rows, 8 invocations for each: each takes four features of every 32, and their sums meet in
// workgroup memory, 256 bytes.
// Moves {{ 8 if element == "f32" else 4 }} bytes per feature and row, and is bound by that.

struct Params {
  workgroups: u32,
  rows: u32,
  heads: u32,
  queries: u32,
  width: u32,
  has_dlse: u32,
  out_at: u32, out_batch: u32, out_head: u32, out_token: u32,
  dout_at: u32, dout_batch: u32, dout_head: u32, dout_token: u32,
  // Words of scratch, (B, H, Sq).
  lse_at: u32, dlse_at: u32, delta_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(0) @binding(2) var<storage, read_write> dout: array<u32>;
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
{{ lines.load_four(element, "out") }}
{{ lines.load_four(element, "dout") }}

var<workgroup> pieces: array<f32, 64>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.workgroups) {
    return;
  }
  let row = 8u * id + thread / 8u;
  let head = row / params.queries % params.heads;
  let entry = row / params.queries / params.heads;
  let token = row % params.queries;
  var sum = 0.0;
  if (row < params.rows) {
    let out_line = params.out_at + entry * params.out_batch + head * params.out_head + token * params.out_token;
    let dout_line = params.dout_at + entry * params.dout_batch + head * params.dout_head + token * params.dout_token;
    for (var feature = thread % 8u * 4u; feature < params.width; feature += 32u) {
      let count = params.width - feature;
      sum += dot(four_out(out_line + feature, count), four_dout(dout_line + feature, count));
    }
  }
  pieces[thread] = sum;
  workgroupBarrier();
  if (thread % 8u == 0u && row < params.rows) {
    var delta = 0.0;
    for (var i = 0u; i < 8u; i++) {
      delta += pieces[thread + i];
    }
    if (params.has_dlse != 0u) {
      delta -= bitcast<f32>(scratch[params.dlse_at + row]);
    }
    let saw = scratch[params.lse_at + row] != 0xff800000u;
    scratch[params.delta_at + row] = bitcast<u32>(select(0.0, delta, saw));
  }
}
