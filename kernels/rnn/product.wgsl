{%- import "common/element.wgsl" as elements -%}
{%- import "rnn/lines.wgsl" as lines -%}
{%- set V = "f32" if gates == 1 else "vec4<f32>" -%}
// Recurrent cells, backward: what some steps give to the gradients of the matrices, {{ gates }} for a head; {{ element }}.
//
//   dR[k, n, d, p] (+)= Σ_{lines} D[line, n, d, k] h'[line, n, p]
//
// A workgroup of 256 has 16 rows and 64 columns of all matrices of a head, an invocation one row and four
// columns. Lines, of a step of a row each, are walked 16 at a time, in their order; lines behind the end of a row
// count as zeros, whatever lies there.
// Workgroup memory: D [line][d], {{ 1024 if gates == 1 else 4096 }} bytes; h' [line][p] in fours, 4096 bytes.
// Reads {{ 4 if gates == 1 else 16 }} bytes of D per 64 columns and {{ 4 if element == "f32" else 2 }} of h' per 16 rows; bound by workgroup memory.

struct Params {
  batch: u32,
  steps: u32,
  heads: u32,
  width: u32,
  first_step: u32,   // of the lines
  first: u32,        // line that is walked
  end: u32,          // behind the last one
  tile_rows: u32,    // workgroups along d
  tile_columns: u32, // and along p
  workgroups: u32,   // with work
  flags: u32,
  goes_on: u32,      // 1: dR holds what other lines have given
  slots: u32,        // steps that lie in the workspace
  h_at: u32, h_batch: u32, h_time: u32, h_head: u32,
  dr_at: u32,
  history_at: u32,   // elements of work: D, (slots, B, N, D)
  // Words of scratch.
  lengths_at: u32,
  initial_at: u32,   // (B, N, D): h before the first step
}

const LENGTHS: u32 = 1u;
const REVERSE: u32 = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> h: array<u32>;
@group(0) @binding(2) var<storage, read_write> work: array<{{ V }}>;
@group(0) @binding(3) var<storage, read_write> dr: array<f32>;
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ lines.times() }}
{{ elements.load(element, "h") }}

var<workgroup> left: array<{{ V }}, 256>;
var<workgroup> right: array<vec4<f32>, 256>;

// h of a row and unit before a step of it.
fn state_before(step: u32, row: u32, length: u32, head: u32, p: u32) -> f32 {
  if (step == 0u) {
    return number(params.initial_at + (row * params.heads + head) * params.width + p);
  }
  let time = time_of(step - 1u, length);
  return load_h(params.h_at + row * params.h_batch + time * params.h_time + head * params.h_head + p);
}

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
  let first_p = id % params.tile_columns * 64u;
  let first_d = id / params.tile_columns % params.tile_rows * 16u;
  let head = id / params.tile_columns / params.tile_rows;
  let slow = thread / 16u;
  let fast = thread % 16u;
  // Of columns 4 fast to 4 fast + 3.
  var sums = array<{{ V }}, 4>();
  for (var first = params.first; first < params.end; first += 16u) {
    let line = first + slow;
    var gradients = {{ V }}();
    var states = vec4<f32>();
    if (line < params.end) {
      let step = params.first_step + line / params.batch;
      let row = line % params.batch;
      let length = length_of(row);
      if (step < length) {
        if (first_d + fast < params.width) {
          let place = ((step % params.slots * params.batch + row) * params.heads + head) * params.width;
          gradients = work[params.history_at + place + first_d + fast];
        }
        for (var i = 0u; i < 4u; i++) {
          let p = first_p + 4u * fast + i;
          if (p < params.width) {
            states[i] = state_before(step, row, length, head, p);
          }
        }
      }
    }
    left[thread] = gradients;
    right[thread] = states;
    workgroupBarrier();
    // Sums of 16 lines keep more digits than one long sum.
{%- for i in range(4) %}
    var part_{{ i }} = {{ V }}();
{%- endfor %}
    for (var l = 0u; l < 16u; l++) {
      let factor = left[16u * l + slow];
      let columns = right[16u * l + fast];
{%- for i in range(4) %}
      part_{{ i }} += factor * columns[{{ i }}];
{%- endfor %}
    }
{%- for i in range(4) %}
    sums[{{ i }}] += part_{{ i }};
{%- endfor %}
    workgroupBarrier();
  }
  let d = first_d + slow;
  for (var i = 0u; i < 4u; i++) {
    let p = first_p + 4u * fast + i;
    if (d < params.width && p < params.width) {
{%- for gate in range(gates) %}
      let place_{{ gate }} = params.dr_at + (({{ gate }}u * params.heads + head) * params.width + d) * params.width + p;
      let sum_{{ gate }} = sums[i]{% if gates > 1 %}[{{ gate }}]{% endif %};
      dr[place_{{ gate }}] = select(0.0, dr[place_{{ gate }}], params.goes_on != 0u) + sum_{{ gate }};
{%- endfor %}
    }
  }
}
