{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "rnn/cells.wgsl" as cells -%}
{%- import "rnn/lines.wgsl" as lines -%}
{%- set elman = cell == "elman" or cell == "relu" -%}
{%- set inputs = 1 if elman else 3 if cell == "gru" else 4 -%}
{%- set biases = 1 if elman else 4 -%}
{%- set saved = 1 if elman else 5 if cell == "slstm" else 4 -%}
{%- set states = 2 if cell == "lstm" else 3 if cell == "slstm" else 1 -%}
{%- set V = cells.gates_type(cell) -%}
{%- set resident = path == "head" -%}
// Recurrent cells, backward: {{ cell }}{% if resident %}, a head of four rows by itself, some steps{% else %}, one step, shared by all workgroups{% endif %}; {{ element }}.
//
//   total = dh + ρ + Σ_d R[d, p] D[d];  D, dwx and ρ of the step before follow by element
//
// A workgroup of {{ block[0] }} has {% if resident %}all units of a head, {{ block[0] }} of them at a time{% else %}{{ block[0] }} units of a head{% endif %}, and four rows; an invocation has one unit of the four
// rows. D of the step behind is walked in pieces of {{ block[0] }} units; neighbours read neighbours of the matrix,
// which lies as (N, out, in, gate) in f32. D of some steps stays in the workspace, for the products that
// become dR; its steps lie in turns of `slots`, at least two.{% if resident %} A head of one piece keeps D in workgroup memory, and
// no workgroup ever waits for another.{% endif %}
// Behind the last step, T, there is nothing; `behind` 0 gives the gradients of the states before the first.
// Workgroup memory: D of a piece, [unit][row], {{ (16 if elman else 64) * block[0] }} bytes.
// Reads {{ 4 if elman else 16 }} bytes of the matrix per (out, in) for four rows, from the cache where it holds a head, and is bound
// by that; moves about {{ (inputs + saved + 2) * (4 if element == "f32" else 2) + (4 if elman else 16) }} bytes per (row, step, unit).

struct Params {
  batch: u32,
  steps: u32,
  heads: u32,
  width: u32,
  blocks: u32,       // of {{ block[0] }} units of a head
  behind: u32,       // the step behind the first one that is run, from which it goes down
  count: u32,        // steps
  slots: u32,        // steps that lie in the workspace
  workgroups: u32,   // with work
  flags: u32,
  output_clip: f32,
  grad_clip: f32,
  // Element indices within the bindings, and strides of rows, steps, gates and heads.
  dh_at: u32, dh_batch: u32, dh_time: u32, dh_head: u32,
  h_at: u32, h_batch: u32, h_time: u32, h_head: u32,
  dwx_at: u32, dwx_batch: u32, dwx_time: u32, dwx_gate: u32, dwx_head: u32,
  gates_at: u32, c_at: u32, n_at: u32,
  history_at: u32,   // elements of work: D, (slots, B, N, D), behind the matrix
  // Words of scratch.
  lengths_at: u32,   // (B)
  initial_at: u32,   // (3, B, N, D): h, c, n before the first step
  carry_at: u32,     // (3, B, N, D): ρ of h, c, n
  sums_at: u32,      // (B, Gb, N, D): sums over steps for the bias
  dc_at: u32, dn_at: u32,   // (B, T, N, D)
}

const LENGTHS: u32 = 1u;
const REVERSE: u32 = 2u;
const CLIP: u32 = 4u;
const BIAS: u32 = 8u;
const WIDE: u32 = 16u;
const HAS_DH: u32 = 32u;
const HAS_DC: u32 = 64u;
const HAS_DN: u32 = 128u;
const GRAD_CLIP: u32 = 256u;
const NAN_TO_ZERO: u32 = 512u;
const CUT: u32 = 1024u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> dh: array<u32>;
@group(0) @binding(2) var<storage, read_write> h: array<u32>;
@group(0) @binding(3) var<storage, read_write> gates: array<u32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;
@group(0) @binding(5) var<storage, read_write> n: array<f32>;
@group(0) @binding(6) var<storage, read_write> work: array<{{ V }}>;
@group(0) @binding(7) var<storage, read_write> dwx: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(8) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ cells.functions() }}
{{ cells.back(cell) }}
{{ lines.times() }}
{{ elements.load(element, "dh") }}
{{ elements.load(element, "h") }}
{{ elements.load(element, "gates") }}
{{ elements.rounding(element) }}
{{ lines.put(elements, element, "dwx") }}

// A gate that was kept, element i.
fn kept(i: u32) -> f32 {
{%- if element != "f32" %}
  if (has(WIDE)) {
    return bitcast<f32>(gates[i]);
  }
{%- endif %}
  return load_gates(i);
}

// D of a piece, of four rows each.
var<workgroup> piece: array<{{ V }}, {{ 4 * block[0] }}>;

// The place of a unit in states (B, N, D).
fn unit_of(row: u32, head: u32, d: u32) -> u32 {
  return (row * params.heads + head) * params.width + d;
}

// Where D of a step lies.
fn history_of(step: u32, row: u32, head: u32, d: u32) -> u32 {
  return params.history_at + unit_of(step % params.slots * params.batch + row, head, d);
}

// h, c and n of a row behind the step that lies at `time`.
fn states_at(row: u32, time: u32, head: u32, d: u32) -> vec3<f32> {
  var states = vec3<f32>();
  states.x = load_h(params.h_at + row * params.h_batch + time * params.h_time + head * params.h_head + d);
{%- if states > 1 %}
  let place = unit_of(row * params.steps + time, head, d);
  states.y = c[params.c_at + place];
{%- endif %}
{%- if states > 2 %}
  states.z = n[params.n_at + place];
{%- endif %}
  return states;
}

// Gradients of states that are given for every step.
fn given_at(row: u32, time: u32, head: u32, d: u32) -> vec3<f32> {
  var given = vec3<f32>();
  if (has(HAS_DH)) {
    given.x = load_dh(params.dh_at + row * params.dh_batch + time * params.dh_time + head * params.dh_head + d);
  }
{%- if states > 1 %}
  let place = unit_of(row * params.steps + time, head, d);
  if (has(HAS_DC)) {
    given.y = number(params.dc_at + place);
  }
{%- endif %}
{%- if states > 2 %}
  if (has(HAS_DN)) {
    given.z = number(params.dn_at + place);
  }
{%- endif %}
  return given;
}

// A gradient of h that comes from a later step.
fn limited(gradient: f32) -> f32 {
  var value = gradient;
  if (has(GRAD_CLIP)) {
    value = clamped_to(value, params.grad_clip);
  }
  // By its bits: infinities and NaN are those of the largest exponent.
  if (has(NAN_TO_ZERO) && (bitcast<u32>(value) & 0x7f800000u) == 0x7f800000u) {
    value = 0.0;
  }
  return value;
}

// A unit of a row, to which `sum` comes from the step behind; D of its recurrent gates.
fn back(behind: u32, row: u32, head: u32, d: u32, sum: f32) -> {{ V }} {
  let length = length_of(row);
  let unit = unit_of(row, head, d);
  let of_state = params.batch * params.heads * params.width;
  var carry = vec3<f32>();
{%- for state in range(states) %}
  carry[{{ state }}] = number(params.carry_at + {{ state }}u * of_state + unit);
{%- endfor %}
  if (behind == 0u) {
    if (length > 0u) {
      scratch[params.carry_at + unit] = bitcast<u32>(carry.x + sum);
    }
    return {{ V }}();
  }
  let step = behind - 1u;
  let time = time_of(step, length);
  let dwx_place = params.dwx_at + row * params.dwx_batch + time * params.dwx_time + head * params.dwx_head + d;
  if (step >= length) {
{%- for gate in range(inputs) %}
    put_dwx(dwx_place + {{ gate }}u * params.dwx_gate, 0.0);
{%- endfor %}
    return {{ V }}();
  }
  if (behind < length) {
    carry.x = limited(carry.x + sum);
  }
  var before = vec3<f32>();
  if (step == 0u) {
{%- for state in range(states) %}
    before[{{ state }}] = number(params.initial_at + {{ state }}u * of_state + unit);
{%- endfor %}
  } else {
    before = states_at(row, time_of(step - 1u, length), head, d);
  }
  var saved = array<f32, 5>();
{%- if elman %}
  if (has(CLIP)) {
    saved[0] = kept(params.gates_at + unit_of(row * params.steps + time, head, d));
  }
{%- else %}
{%- for gate in range(saved) %}
  saved[{{ gate }}] = kept(params.gates_at + unit_of((row * params.steps + time) * {{ saved }}u + {{ gate }}u, head, d));
{%- endfor %}
{%- endif %}
  let total = carry + given_at(row, time, head, d);
  let made = back_cell(saved, before, states_at(row, time, head, d), total, has(CLIP), params.output_clip);
{%- for state in range(states) %}
  scratch[params.carry_at + {{ state }}u * of_state + unit] = bitcast<u32>(made.before[{{ state }}]);
{%- endfor %}
{%- for gate in range(inputs) %}
  put_dwx(dwx_place + {{ gate }}u * params.dwx_gate, made.gates[{{ biases - inputs + gate }}]);
{%- endfor %}
  if (has(BIAS)) {
{%- for gate in range(biases) %}
    let sum_{{ gate }} = params.sums_at + unit_of(row * {{ biases }}u + {{ gate }}u, head, d);
    scratch[sum_{{ gate }}] = bitcast<u32>(number(sum_{{ gate }}) + made.gates[{{ gate }}]);
{%- endfor %}
  }
{%- if elman %}
  return made.gates.x;
{%- elif cell == "gru" %}
  return vec4<f32>(made.gates.xyz, 0.0);
{%- else %}
  return made.gates;
{%- endif %}
}

// A step of a block of units. `stale`: workgroup memory does not hold D of the step behind yet.
fn run(behind: u32, row: u32, head: u32, block: u32, thread: u32, stale: bool) {
  let d = block * {{ block[0] }}u + thread;
  let rows = min(4u, params.batch - row);
  var sums = vec4<f32>();
  // What lies behind the last step is nothing.
  let end = select(0u, params.width, behind < params.steps && !has(CUT));
  for (var first = 0u; first < end; first += {{ block[0] }}u) {
    let count = min({{ block[0] }}u, params.width - first);
    if (stale && thread < count) {
      for (var r = 0u; r < 4u; r++) {
        var gradients = {{ V }}();
        if (r < rows) {
          gradients = work[history_of(behind, row + r, head, first + thread)];
        }
        piece[4u * thread + r] = gradients;
      }
    }
    workgroupBarrier();
    if (d < params.width) {
      // Sums of pieces keep more digits than one long sum.
      var part = vec4<f32>();
      let column = (head * params.width + first) * params.width + d;
      for (var j = 0u; j < count; j++) {
        let weight = work[column + j * params.width];
{%- for r in range(4) %}
{%- if elman %}
        part[{{ r }}] += weight * piece[4u * j + {{ r }}u];
{%- else %}
        part[{{ r }}] += dot(weight, piece[4u * j + {{ r }}u]);
{%- endif %}
{%- endfor %}
      }
      sums += part;
    }
    workgroupBarrier();
  }
  if (d < params.width) {
    for (var r = 0u; r < rows; r++) {
      let gradients = back(behind, row + r, head, d, sums[r]);
      if (behind > 0u) {
        work[history_of(behind - 1u, row + r, head, d)] = gradients;
      }
{%- if resident %}
      if (params.blocks == 1u) {
        piece[4u * thread + r] = gradients;
      }
{%- endif %}
    }
  }
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
{%- if resident %}
  let head = id % params.heads;
  let row = id / params.heads * 4u;
  for (var i = 0u; i < params.count; i++) {
    for (var block = 0u; block < params.blocks; block++) {
      run(params.behind - i, row, head, block, thread, i == 0u || params.blocks > 1u);
    }
    storageBarrier();
    workgroupBarrier();
  }
{%- else %}
  let block = id % params.blocks;
  let head = id / params.blocks % params.heads;
  let row = id / params.blocks / params.heads * 4u;
  run(params.behind, row, head, block, thread, true);
{%- endif %}
}
