{%- import "common/activation.wgsl" as activation -%}
// Selective scan, second pass of the chunked forward: carries the state over the chunks.
//
//   h = h0;  for each chunk:  carry = h;  h = exp(A Σ Δ) h + end   (h = end where the chunk resets)
//
// One invocation per (row, channel, state), neighbours along the states. On entry `carries` holds
// the state that each chunk ends with when it starts from zero, [row, channel, chunk, state]; on
// return, the state that it starts from. Reads and writes 4 bytes per (row, channel, chunk, state)
// and is bound by that; it is small against the scans.

struct Params {
  lines: u32,        // rows times channels
  channels: u32,
  states: u32,
  chunks: u32,
  flags: u32,
  a_at: u32,
  h0_at: u32,
  carry_at: u32,
  sums_at: u32,
  last_at: u32,
}

const TIED: u32 = 4u;
const HAS_H0: u32 = 256u;
const LAST: u32 = 4096u;
const CUT: u32 = 0xffffffffu;
const LOG2_E: f32 = 1.44269504;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> a: array<u32>;
@group(0) @binding(2) var<storage, read_write> h0: array<u32>;
@group(0) @binding(3) var<storage, read_write> carries: array<u32>;
@group(0) @binding(4) var<storage, read_write> last_state: array<u32>;
{{ activation.exp2_minus_one("f32") }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let i = id * {{ block[0] }}u + thread;
  if (i >= params.lines * params.states) {
    return;
  }
  let line = i / params.states;
  let n = i % params.states;
  let channel = line % params.channels;
  let decay = bitcast<f32>(a[params.a_at + select(channel * params.states + n, channel, (params.flags & TIED) != 0u)]) * LOG2_E;
  var h = 0.0;
  if ((params.flags & HAS_H0) != 0u) {
    h = bitcast<f32>(h0[params.h0_at + i]);
  }
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let place = params.carry_at + (line * params.chunks + chunk) * params.states + n;
    let end = bitcast<f32>(carries[place]);
    let sum = carries[params.sums_at + line * params.chunks + chunk];
    carries[place] = bitcast<u32>(h);
    let carried = (exp2_minus_one(decay * bitcast<f32>(sum)) * h + h) + end;
    h = select(carried, end, sum == CUT);
  }
  if ((params.flags & LAST) != 0u) {
    last_state[params.last_at + i] = bitcast<u32>(h);
  }
}
