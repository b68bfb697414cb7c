{%- import "common/activation.wgsl" as activation -%}
{%- import "scan_attention/tile.wgsl" as tile -%}
// Scan attention, second pass of the chunked forward: carries the state over the chunks.
//
//   state = carry in;  for each chunk:  start = state;  state = state joined with end  (end where the chunk resets)
//
// One invocation per (row, head, feature); a head without features has one. Every invocation carries m and
// u, the first of a head writes them. Moves 8 bytes per (row, head, chunk, feature) and is bound by that.

struct Params {
  count: u32,        // invocations with work
  width: u32,
  chunks: u32,
  has_carry: u32,
  // Words of scratch.
  m0_at: u32, u0_at: u32, w0_at: u32,
  end_m_at: u32, end_u_at: u32, cuts_at: u32,   // (rows, H, chunks)
  start_m_at: u32, start_u_at: u32,
  w_at: u32,         // (rows, H, chunks, Dv): first of the ends, then of the starts
  last_m_at: u32, last_u_at: u32, last_w_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scratch: array<u32>;

{{ activation.exp_accurate() }}
{{ tile.numbers() }}

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
  var m = LEAST;
  var u = 0.0;
  var w = 0.0;
  if (params.has_carry != 0u) {
    m = number(params.m0_at + line);
    u = number(params.u0_at + line);
    if (has_feature) {
      w = number(params.w0_at + line * params.width + d);
    }
  }
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let state = line * params.chunks + chunk;
    let m_end = number(params.end_m_at + state);
    let u_end = number(params.end_u_at + state);
    if (d == 0u) {
      scratch[params.start_m_at + state] = bits_of(m);
      scratch[params.start_u_at + state] = bitcast<u32>(u);
    }
    let cut = scratch[params.cuts_at + state] != 0u;
    let before = select(m, LEAST, cut);
    let largest = max(before, m_end);
    let kept = exp_below(before, largest);
    let added = exp_below(m_end, largest);
    if (has_feature) {
      let place = params.w_at + state * params.width + d;
      let w_end = bitcast<f32>(scratch[place]);
      scratch[place] = bitcast<u32>(w);
      w = select(w, 0.0, cut) * kept + w_end * added;
    }
    u = select(u, 0.0, cut) * kept + u_end * added;
    m = largest;
  }
  if (d == 0u) {
    scratch[params.last_m_at + line] = bits_of(m);
    scratch[params.last_u_at + line] = bitcast<u32>(u);
  }
  if (has_feature) {
    scratch[params.last_w_at + line * params.width + d] = bitcast<u32>(w);
  }
}
