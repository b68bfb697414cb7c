{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "rnn/cells.wgsl" as cells -%}
{%- import "rnn/lines.wgsl" as lines -%}
{%- set elman = cell == "elman" or cell == "relu" -%}
{%- set inputs = 1 if elman else 3 if cell == "gru" else 4 -%}
{%- set biases = 1 if elman else 4 -%}
{%- set saved = 1 if elman else 5 if cell == "slstm" else 4 -%}
{%- set states = 2 if cell == "lstm" else 4 if cell == "slstm" else 1 -%}
{%- set V = cells.gates_type(cell) -%}
{%- set resident = path == "head" -%}
// Recurrent cells, forward: {{ cell }}{% if resident %}, a head of four rows by itself, some steps{% else %}, one step, shared by all workgroups{% endif %}; {{ element }}.
//
//   gates[b, n, d] = W[b, t, n, d] + Σ_p R[n, d, p] h'[b, n, p] + bias[n, d];  then the cell, by element
//
// A workgroup of {{ block[0] }} has {% if resident %}all units of a head, {{ block[0] }} of them at a time{% else %}{{ block[0] }} units of a head{% endif %}, and four rows; an invocation has one unit of the four
// rows with all of its gates. h' is walked in pieces of {{ block[0] }} units; neighbours read neighbours of the
// matrix, which lies as (N, in, out, gate) in f32. h of a step and of the next lie in scratch in turns; the
// other states belong to the invocation of their unit.{% if resident %} A head of one piece keeps h in workgroup memory, and no
// workgroup ever waits for another.{% endif %}
// Workgroup memory: h' of a piece, [unit] of four rows, {{ 16 * block[0] }} bytes.
// Reads {{ 4 if elman else 16 }} bytes of the matrix per (in, out) for four rows, from the cache where it holds a head, and is bound
// by that; moves {{ (inputs + 1) * (4 if element == "f32" else 2) }} bytes per (row, step, unit), and more where gates and states are kept.

struct Params {
  batch: u32,
  steps: u32,
  heads: u32,
  width: u32,
  blocks: u32,       // of {{ block[0] }} units of a head
  first: u32,        // step
  count: u32,        // steps from there on
  workgroups: u32,   // with work
  flags: u32,
  output_clip: f32,
  n_floor: f32,
  // Element indices within the bindings, and strides of rows, steps, gates and heads.
  wx_at: u32, wx_batch: u32, wx_time: u32, wx_gate: u32, wx_head: u32,
  h_at: u32, h_batch: u32, h_time: u32, h_head: u32,
  gates_at: u32, c_at: u32, n_at: u32, m_at: u32,
  // Words of scratch.
  bias_at: u32,      // (Gb, N, D)
  lengths_at: u32,   // (B)
  states_at: u32,    // (5, B, N, D): h before even steps, before odd ones, c, n, m
}

const LENGTHS: u32 = 1u;
const REVERSE: u32 = 2u;
const CLIP: u32 = 4u;
const BIAS: u32 = 8u;
const GATES: u32 = 16u;
const WIDE: u32 = 32u;
const SEQUENCE_C: u32 = 64u;
const SEQUENCE_N: u32 = 128u;
const SEQUENCE_M: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> wx: array<u32>;
@group(0) @binding(2) var<storage, read_write> matrix: array<{{ V }}>;
@group(0) @binding(3) var<storage, read_write> h: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(4) var<storage, read_write> gates: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
@group(0) @binding(6) var<storage, read_write> n: array<f32>;
@group(0) @binding(7) var<storage, read_write> m: array<f32>;
@group(0) @binding(8) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{%- if cell == "slstm" %}
{{ activation.softplus() }}
{%- endif %}
{{ cells.functions() }}
{{ cells.step(cell) }}
{{ lines.times() }}
{{ elements.load(element, "wx") }}
{{ elements.rounding(element) }}
{{ lines.put(elements, element, "h") }}
{{ lines.put(elements, element, "gates") }}

// A gate that is kept, element i.
fn keep(i: u32, x: f32) {
{%- if element != "f32" %}
  if (has(WIDE)) {
    atomicStore(&gates[i], bitcast<u32>(x));
    return;
  }
{%- endif %}
  put_gates(i, x);
}

// h' of a piece, of four rows.
var<workgroup> piece: array<vec4<f32>, {{ block[0] }}>;

// The place of a unit in states (B, N, D).
fn unit_of(row: u32, head: u32, d: u32) -> u32 {
  return (row * params.heads + head) * params.width + d;
}

// Where h lies that a step begins with.
fn h_before(step: u32) -> u32 {
  return params.states_at + (step & 1u) * params.batch * params.heads * params.width;
}

// The states behind a step, in its sequences.
fn write_states(line: u32, head: u32, d: u32, states: vec4<f32>) {
{%- if states > 1 %}
  let place = unit_of(line, head, d);
  if (has(SEQUENCE_C)) {
    c[params.c_at + place] = states.y;
  }
{%- endif %}
{%- if states > 2 %}
  if (has(SEQUENCE_N)) {
    n[params.n_at + place] = states.z;
  }
  if (has(SEQUENCE_M)) {
    m[params.m_at + place] = states.w;
  }
{%- endif %}
}

// A unit of a row whose recurrent products are known; h behind the step.
fn advance(step: u32, row: u32, head: u32, d: u32, recurrent: {{ V }}) -> f32 {
  let length = length_of(row);
  let time = time_of(step, length);
  let line = row * params.steps + time;
  let h_place = params.h_at + row * params.h_batch + time * params.h_time + head * params.h_head + d;
  let unit = unit_of(row, head, d);
  let before_h = number(h_before(step) + unit);
  if (step >= length) {
    put_h(h_place, 0.0);
    write_states(line, head, d, vec4<f32>());
    scratch[h_before(step + 1u) + unit] = bitcast<u32>(before_h);
    return before_h;
  }
  var before = vec4<f32>(before_h, 0.0, 0.0, 0.0);
  let of_state = params.batch * params.heads * params.width;
{%- for state in range(1, states) %}
  before[{{ state }}] = number(params.states_at + {{ state + 1 }}u * of_state + unit);
{%- endfor %}
  var input = vec4<f32>();
  var bias = vec4<f32>();
  let wx_place = params.wx_at + row * params.wx_batch + time * params.wx_time + head * params.wx_head + d;
{%- for gate in range(inputs) %}
  input[{{ gate }}] = load_wx(wx_place + {{ gate }}u * params.wx_gate);
{%- endfor %}
  if (has(BIAS)) {
{%- for gate in range(biases) %}
    bias[{{ gate }}] = number(params.bias_at + unit_of({{ gate }}u, head, d));
{%- endfor %}
  }
  var done = step_cell(input, recurrent, bias, before, params.n_floor);
  if (has(CLIP)) {
    done.states.x = clamped_to(done.states.x, params.output_clip);
  }
  put_h(h_place, done.states.x);
  write_states(line, head, d, done.states);
  scratch[h_before(step + 1u) + unit] = bitcast<u32>(done.states.x);
{%- for state in range(1, states) %}
  scratch[params.states_at + {{ state + 1 }}u * of_state + unit] = bitcast<u32>(done.states[{{ state }}]);
{%- endfor %}
  if (has(GATES)) {
{%- for gate in range(saved) %}
    keep(params.gates_at + unit_of(line * {{ saved }}u + {{ gate }}u, head, d), done.saved[{{ gate }}]);
{%- endfor %}
  }
  return done.states.x;
}

// A step of a block of units. `stale`: workgroup memory does not hold h' yet.
fn run(step: u32, row: u32, head: u32, block: u32, thread: u32, stale: bool) {
  let d = block * {{ block[0] }}u + thread;
  let rows = min(4u, params.batch - row);
  var sums = array<{{ V }}, 4>();
  for (var first = 0u; first < params.width; first += {{ block[0] }}u) {
    let count = min({{ block[0] }}u, params.width - first);
    if (stale && thread < count) {
      var before = vec4<f32>();
      for (var r = 0u; r < rows; r++) {
        before[r] = number(h_before(step) + unit_of(row + r, head, first + thread));
      }
      piece[thread] = before;
    }
    workgroupBarrier();
    if (d < params.width) {
      // Sums of pieces keep more digits than one long sum.
      var part_0 = {{ V }}();
      var part_1 = {{ V }}();
      var part_2 = {{ V }}();
      var part_3 = {{ V }}();
      let column = (head * params.width + first) * params.width + d;
      for (var p = 0u; p < count; p++) {
        let weight = matrix[column + p * params.width];
        let before = piece[p];
        part_0 += weight * before.x;
        part_1 += weight * before.y;
        part_2 += weight * before.z;
        part_3 += weight * before.w;
      }
      sums[0] += part_0;
      sums[1] += part_1;
      sums[2] += part_2;
      sums[3] += part_3;
    }
    workgroupBarrier();
  }
  if (d < params.width) {
    var after = vec4<f32>();
    for (var r = 0u; r < rows; r++) {
      after[r] = advance(step, row + r, head, d, sums[r]);
    }
{%- if resident %}
    if (params.blocks == 1u) {
      piece[thread] = after;
    }
{%- endif %}
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
      run(params.first + i, row, head, block, thread, i == 0u || params.blocks > 1u);
    }
    storageBarrier();
    workgroupBarrier();
  }
{%- else %}
  let block = id % params.blocks;
  let head = id / params.blocks % params.heads;
  let row = id / params.blocks / params.heads * 4u;
  run(params.first, row, head, block, thread, true);
{%- endif %}
}
