{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "selective_scan/tile.wgsl" as tiles -%}
{%- import "selective_scan/backward_sums.wgsl" as sums -%}
{%- set threads = block[0] -%}
{%- set channels = threads // lanes -%}
{%- set row = tile + 1 -%}
{%- set vectors = states // 4 -%}
{%- set padded = states * lanes -%}
{%- set pitch = threads + 1 -%}
{%- set V = "vec4<f32>" -%}
{%- set shape = { "threads": threads, "lanes": lanes, "vectors": vectors, "tile": tile, "row": row, "pitch": pitch } -%}
{%- set small = { "a": "scratch", "delta_bias": "scratch", "positions": "scratch" } -%}
{#- States that a function `f` gives, as the registers `name0`, `name1`, ... A loop keeps the text short. -#}
{%- macro load_states(keyword, name, f) %}
  for (var i = 0u; i < own; i++) {
    kept[i] = {{ f }};
  }
{%- for k in range(vectors) %}
  {{ keyword }} {{ name }}{{ k }} = {{ V }}(kept[{{ 4 * k }}], kept[{{ 4 * k + 1 }}], kept[{{ 4 * k + 2 }}], kept[{{ 4 * k + 3 }}]);
{%- endfor %}
{%- endmacro -%}
{#- Registers of states, one by one. -#}
{%- macro as_array(name) %}array<f32, {{ states }}>({% for k in range(vectors) %}{% if k > 0 %}, {% endif %}{{ name }}{{ k }}.x, {{ name }}{{ k }}.y, {{ name }}{{ k }}.z, {{ name }}{{ k }}.w{% endfor %}){% endmacro -%}
{#- Stages Δ and u of the tile at `start`; with `whole`, all that the way down needs. -#}
{%- macro stage(whole) %}
      if (thread < {{ tile }}u) {
        let time = start + thread;
        var meaning = 0u;
        if (time >= first && time < end) {
          meaning = code(batch, time);
        }
        codes[thread] = meaning;
      }
      for (var e = thread; e < elements; e += {{ threads }}u) {
        let t = select(e % {{ tile }}u, e / {{ channels }}u, channel_last);
        let s = select(e / {{ tile }}u, e % {{ channels }}u, channel_last);
        let time = start + t;
        let c = first_channel + s;
        var point = Point();
        if (s < live && time >= first && time < end && code(batch, time) != PADDING) {
          let p = biased(load_delta(delta_first + place(c, time, params.delta_slow)), c);
          point.step_size = step_size_of(p);
          point.u = load_u(u_first + place(c, time, params.u_slow));
{%- if whole %}
          point.slope = slope_of(p);
          point.dy = load_dout(dout_first + place(c, time, params.dout_slow));
          if (has(HAS_Z)) {
            let z = load_z(z_first + place(c, time, params.z_slow));
            let open = sigmoid(z);
            point.dz = point.dy * (open * (1.0 + z * (1.0 - open)));
            point.dy *= z * open;
          }
{%- endif %}
        }
        step_sizes[s * {{ row }}u + t] = point.step_size;
        inputs[s * {{ row }}u + t] = point.u;
{%- if whole %}
        slopes[s * {{ row }}u + t] = point.slope;
        dys[s * {{ row }}u + t] = point.dy;
        dzs[s * {{ row }}u + t] = point.dz;
{%- endif %}
      }
{%- endmacro -%}
{#- The maps of the tile's step t, where they vary. -#}
{%- macro read_map(name, flag) %}
        if (!has({{ flag }})) {
{%- for k in range(vectors) %}
          {{ name }}{{ k }} = map_at({{ name }}_first + (start + t - params.start) * {{ padded }}u + {{ 4 * k }}u);
{%- endfor %}
        }
{%- endmacro -%}
{#- exp(Δ A). -#}
{%- macro decays() %}
{%- for k in range(vectors) %}
        var decay{{ k }}: Decay;
{%- endfor %}
        if (has(TIED)) {
          let tied = decay_of({{ V }}(step_size * a0.x));
{%- for k in range(vectors) %}
          decay{{ k }} = tied;
{%- endfor %}
        } else {
{%- for k in range(vectors) %}
          decay{{ k }} = decay_of(step_size * a{{ k }});
{%- endfor %}
        }
{%- endmacro -%}
{#- The forward recurrence over one step. What is small is added first: a decay that takes less than the last
    bit of h would else round to nothing, at every step alike. -#}
{%- macro step_up() %}
        let step_size = step_sizes[slot * {{ row }}u + t];
        let input = inputs[slot * {{ row }}u + t];
        let x = step_size * input;
        if (codes[t] == RESET) {
{%- for k in range(vectors) %}
          h{{ k }} = {{ V }}();
{%- endfor %}
        }
{{- read_map("b", "B_CONSTANT") }}
{{- decays() }}
{%- for k in range(vectors) %}
        h{{ k }} = decay{{ k }}.keep * h{{ k }} + (decay{{ k }}.by * h{{ k }} + x * b{{ k }});
{%- endfor %}
{%- endmacro -%}
// Selective scan, backward, over one segment of time; {{ element }}, up to {{ padded }} states.
//
//   Δ = clamp(softplus(delta + delta_bias)),  q_t = exp(Δ A) h_{t-1},  h_t = q_t + Δ B u,  y = Σ_n C h + D u
//   dy = dout silu(z),  dz = dout y silu'(z)
// and down in time, from carry = dlast_state:
//   g = carry + dy C,  carry = exp(Δ A) g,  w = Σ_n g B
//   du = D dy + Δ w,  ddelta = (u w + Σ_n A g q) clamp' softplus'
//   dA = Σ_t Δ g q,  dB_t = Σ_channels Δ u g,  dC_t = Σ_channels dy h_t,  dD = Σ_t dy u,  dh0 = carry
//
// A workgroup of {{ threads }} takes {{ channels }} channels of one group, of one row. {{ lanes }} neighbouring invocations share a
// channel; each keeps {{ states }} states in registers. It goes down from checkpoint to checkpoint: up from the
// saved state in tiles of {{ tile }} steps, keeping the state before each tile; then, tile by tile down:
//   1. all stage Δ, u, dy and the slopes, coalesced along the fastest axis;
//   2. each walks up with its states, keeps them, and leaves its part of dz;
//   3. all sum dC over the channels, and write dz;
//   4. each walks down with its g, kept in place of h, and leaves its parts of du and ddelta;
//   5. all sum dB over the channels, and write du and ddelta.
// A row's segments are dispatched from the last to the first; the carry, and sums over time, stay in scratch
// between them. What several workgroups give to one number is left in parts, which the next dispatch sums in
// their order. Steps outside the row, and padding, are neutral by their data: Δ = u = dy = 0.
//
// Workgroup memory, f32: h or g [{{ tile }}][{{ vectors }}][{{ pitch }}][4]; parts of dz or du, of ddelta [{{ threads }}][{{ row }}];
// Δ, u, dy, slope, dout silu' or Δ u [{{ channels }}][{{ row }}]. Odd strides keep the banks apart. There is no room left for B and C:
// they are read where maps.wgsl has put them, each step's states side by side, by all channels at a time.
// Moves 9 elements per (b, d, l) with z, u and delta twice, and {{ (16 * padded / channels) | round(1) }} bytes of parts, behind them too. {{ 3 * padded }}
// exponentials per (b, d, l): bound by arithmetic, some 60 operations for each (b, d, l, n).

struct Params {
  rows: u32,         // batch entries, or packed sequences
  channels: u32,
  steps: u32,
  states: u32,
  groups: u32,
  batch: u32,
  start: u32,        // the segment: its first step, a multiple of CHECKPOINT, and its length
  length: u32,
  blocks: u32,       // workgroups of a group, and which of its blocks of channels the first one takes
  first_block: u32,
  checkpoints: u32,
  flags: u32,
  delta_min: f32,
  delta_max: f32,
  // Element indices within the bindings, and strides: of batch entries, of the outer one of
  // channel and time (`slow`).
  u_at: u32, u_batch: u32, u_slow: u32,
  delta_at: u32, delta_batch: u32, delta_slow: u32,
  z_at: u32, z_batch: u32, z_slow: u32,
  dout_at: u32, dout_batch: u32, dout_slow: u32,
  du_at: u32, du_batch: u32, du_slow: u32,
  ddelta_at: u32, ddelta_batch: u32, ddelta_slow: u32,
  dz_at: u32, dz_batch: u32, dz_slow: u32,
  // Words of scratch.
  a_at: u32, d_at: u32, delta_bias_at: u32, h0_at: u32, positions_at: u32,
  saved_at: u32,
  b_at: u32, c_at: u32,    // (batch, groups, length, {{ padded }}), or constant (channels, states)
  carry_at: u32,           // (rows, channels, states)
  db_at: u32, dc_at: u32,  // parts (blocks, batch, groups, length, states), or (rows, channels, states)
  da_at: u32,              // (rows, channels, states), or (rows, states, channels) where A is (D)
  dd_at: u32,              // (rows, channels)
  ddelta_bias_at: u32,     // (rows, {{ lanes }}, channels)
}

{{ tiles.flags() }}
const GOES_ON: u32 = 2048u;        // a later segment has left its sums
const HAS_CARRY: u32 = 4096u;      // carry is there
const BLOCKS_GO_ON: u32 = 16384u;  // earlier blocks have left their parts of dB and dC
const WANTS_DU: u32 = 32768u;
const WANTS_DDELTA: u32 = 65536u;
const WANTS_DZ: u32 = 131072u;
const WANTS_DB: u32 = 262144u;
const WANTS_DC: u32 = 524288u;
const LN_2: f32 = 0.693147181;

{%- set result = "u32" if element == "f32" else "atomic<u32>" %}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> u: array<u32>;
@group(0) @binding(2) var<storage, read_write> delta: array<u32>;
@group(0) @binding(3) var<storage, read_write> z: array<u32>;
@group(0) @binding(4) var<storage, read_write> dout: array<u32>;
@group(0) @binding(5) var<storage, read_write> du: array<{{ result }}>;
@group(0) @binding(6) var<storage, read_write> ddelta: array<{{ result }}>;
@group(0) @binding(7) var<storage, read_write> dz: array<{{ result }}>;
@group(0) @binding(8) var<storage, read_write> scratch: array<u32>;

var<workgroup> row_first: u32;
var<workgroup> span_first: u32;
var<workgroup> span_end: u32;
var<workgroup> codes: array<u32, {{ tile }}>;
var<workgroup> step_sizes: array<f32, {{ channels * row }}>;
var<workgroup> inputs: array<f32, {{ channels * row }}>;
var<workgroup> slopes: array<f32, {{ channels * row }}>;
var<workgroup> dys: array<f32, {{ channels * row }}>;
var<workgroup> dzs: array<f32, {{ channels * row }}>;  // dout silu'(z), on the way down Δ u in its place
var<workgroup> parts: array<f32, {{ threads * row }}>;
var<workgroup> ddelta_parts: array<f32, {{ threads * row }}>;
var<workgroup> kept_states: array<{{ V }}, {{ tile * vectors * pitch }}>;

// What is staged of a channel and step.
struct Point {
  step_size: f32,
  u: f32,
  slope: f32,
  dy: f32,
  dz: f32,           // dout silu'(z)
}
{{ elements.load(element, "u") }}
{{ elements.load(element, "delta") }}
{{ elements.load(element, "z") }}
{{ elements.load(element, "dout") }}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("du") }}
{{ elements.store_masked("ddelta") }}
{{ elements.store_masked("dz") }}
{%- endif %}
{{ activation.exp_accurate() }}
{{ activation.softplus() }}
{{ activation.exp2_minus_one(V) }}
{{ activation.silu() }}

{{ tiles.reads(small) }}

fn number(word: u32) -> f32 {
  return bitcast<f32>(scratch[word]);
}

// 2^x as by + keep: by = 2^x - 1 and keep = 1 where it is close to 1, so that it keeps its distance
// from it, by = 2^x and keep = 0 elsewhere, so that small ones keep their digits.
struct Decay {
  by: {{ V }},
  keep: {{ V }},
}

fn decay_of(x: {{ V }}) -> Decay {
  let close = abs(x) < {{ V }}(0.125);
  return Decay(select(exp2(x), exp2_minus_one(x), close), select({{ V }}(), {{ V }}(1.0), close));
}

// A number that is there under a flag, else 0.
fn constant(flag: u32, word: u32) -> f32 {
  if (has(flag)) {
    return number(word);
  }
  return 0.0;
}

// A vector of a variable map.
fn map_at(word: u32) -> {{ V }} {
  return {{ V }}(number(word), number(word + 1u), number(word + 2u), number(word + 3u));
}

// The derivative of the step size by the raw one.
fn slope_of(p: f32) -> f32 {
  var slope = 1.0;
  var s = p;
  if (has(SOFTPLUS)) {
    slope = sigmoid(p);
    s = softplus(p);
  }
  return select(slope, 0.0, has(CLAMP) && (s < params.delta_min || s > params.delta_max));
}

{{ sums.over_lanes(lanes, row) }}

@compute @workgroup_size({{ threads }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  // Which channels, of which row. Workgroups beyond the last have no channel and an empty span.
  let group_channels = params.channels / params.groups;
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let block = id % params.blocks;
  let group = id / params.blocks % params.groups;
  let row = id / (params.blocks * params.groups);
  let batch = select(row, 0u, has(PACKED));
  let passed = min((params.first_block + block) * {{ channels }}u, group_channels);
  let first_channel = group * group_channels + passed;
  let live = select(0u, min({{ channels }}u, group_channels - passed), row < params.rows);
  if (thread == 0u) {
    var begin = 0u;
    var beyond = 0u;
    if (row < params.rows) {
      beyond = params.steps;
      if (has(PACKED)) {
        begin = scratch[params.positions_at + row];
        beyond = scratch[params.positions_at + row + 1u];
      }
    }
    row_first = begin;
    span_first = max(begin, params.start);
    span_end = max(span_first, min(beyond, params.start + params.length));
  }
  let row_begin = workgroupUniformLoad(&row_first);
  let first = workgroupUniformLoad(&span_first);
  let end = workgroupUniformLoad(&span_end);

  // This invocation's channel, and what stays in its registers.
  let lane = thread % {{ lanes }}u;
  let slot = thread / {{ lanes }}u;
  let channel = first_channel + slot;
  let alive = slot < live;
  let n = lane * {{ states }}u;
  let line = row * params.channels + channel;
  let state = line * params.states + n;
  // States of this invocation; the registers behind them hold 0, which changes nothing.
  let own = select(0u, min({{ states }}u, max(params.states, n) - n), alive);
  var kept = array<f32, {{ states }}>();
{{- load_states("let", "a", "decay(channel, n + i)") }}
{{- load_states("var", "b", "constant(B_CONSTANT, params.b_at + channel * params.states + n + i)") }}
{{- load_states("var", "c", "constant(C_CONSTANT, params.c_at + channel * params.states + n + i)") }}
{{- load_states("var", "carry", "constant(HAS_CARRY, params.carry_at + state + i)") }}
{%- for k in range(vectors) %}
  var h{{ k }} = {{ V }}();
  var drift{{ k }} = {{ V }}();  // what the last decay adds to the carry
  var da{{ k }} = {{ V }}();
  var db{{ k }} = {{ V }}();
  var dc{{ k }} = {{ V }}();
{%- endfor %}
  var dd = 0.0;
  var ddelta_bias = 0.0;
  var starts = array<{{ V }}, {{ 256 // tile * vectors }}>();
  // The first lane adds the skip.
  var skip = 0.0;
  if (has(HAS_D) && alive && lane == 0u) {
    skip = number(params.d_at + channel);
  }
  let channel_last = has(CHANNEL_LAST);
  // A tile's elements, along its fastest axis first: time, of live channels, or all channels.
  let elements = select(live * {{ tile }}u, {{ channels * tile }}u, channel_last);
  let walked = select(0u, {{ tile }}u, alive);
  let u_first = params.u_at + batch * params.u_batch;
  let delta_first = params.delta_at + batch * params.delta_batch;
  let z_first = params.z_at + batch * params.z_batch;
  let dout_first = params.dout_at + batch * params.dout_batch;
  let du_first = params.du_at + batch * params.du_batch;
  let ddelta_first = params.ddelta_at + batch * params.ddelta_batch;
  let dz_first = params.dz_at + batch * params.dz_batch;
  // Of this invocation's states, where the segment begins.
  let map_first = (batch * params.groups + group) * params.length * {{ padded }}u + n;
  let b_first = params.b_at + map_first;
  let c_first = params.c_at + map_first;
  let part_line = (block * params.batch + batch) * params.groups + group;
  let part_first = part_line * params.length * params.states;

  let lowest = first / CHECKPOINT;
  let highest = (end + CHECKPOINT - 1u) / CHECKPOINT;
  let intervals = select(0u, highest - lowest, end > first);
  for (var turn = intervals; turn > 0u; turn--) {
    let base = (lowest + turn - 1u) * CHECKPOINT;
    let first_tile = max(base, first) / {{ tile }}u;
    let tile_count = (min(base + CHECKPOINT, end) + {{ tile - 1 }}u) / {{ tile }}u - first_tile;
    // The state before the interval, and before each of its tiles.
    let saved = (batch * params.channels + channel) * params.checkpoints + base / CHECKPOINT - 1u;
    for (var i = 0u; i < own; i++) {
      if (base > row_begin) {
        kept[i] = number(params.saved_at + saved * params.states + n + i);
      } else {
        kept[i] = constant(HAS_H0, params.h0_at + state + i);
      }
    }
{%- for k in range(vectors) %}
    h{{ k }} = {{ V }}(kept[{{ 4 * k }}], kept[{{ 4 * k + 1 }}], kept[{{ 4 * k + 2 }}], kept[{{ 4 * k + 3 }}]);
    starts[{{ k }}] = h{{ k }};
{%- endfor %}
    for (var tile = 1u; tile < tile_count; tile++) {
      let start = (first_tile + tile - 1u) * {{ tile }}u;
{{- stage(false) }}
      workgroupBarrier();
      for (var t = 0u; t < walked; t++) {
{{- step_up() }}
      }
{%- for k in range(vectors) %}
      starts[tile * {{ vectors }}u + {{ k }}u] = h{{ k }};
{%- endfor %}
      workgroupBarrier();
    }

    for (var tile = tile_count; tile > 0u; tile--) {
      let start = (first_tile + tile - 1u) * {{ tile }}u;
      // 1. Stage the tile.
{{- stage(true) }}
      workgroupBarrier();

      // 2. Walk up.
{%- for k in range(vectors) %}
      let start{{ k }} = starts[(tile - 1u) * {{ vectors }}u + {{ k }}u];
      h{{ k }} = start{{ k }};
{%- endfor %}
      for (var t = 0u; t < walked; t++) {
{{- step_up() }}
{{- read_map("c", "C_CONSTANT") }}
        let dy = dys[slot * {{ row }}u + t];
        var y = c0 * h0;
        dc0 += dy * h0;
        kept_states[t * {{ vectors * pitch }}u + thread] = h0;
{%- for k in range(1, vectors) %}
        y += c{{ k }} * h{{ k }};
        dc{{ k }} += dy * h{{ k }};
        kept_states[t * {{ vectors * pitch }}u + {{ k * pitch }}u + thread] = h{{ k }};
{%- endfor %}
        parts[thread * {{ row }}u + t] =
          dzs[slot * {{ row }}u + t] * (skip * input + ((y.x + y.y) + (y.z + y.w)));
      }
      workgroupBarrier();

      // 3. dC and dz.
      if (has(WANTS_DC) && !has(C_CONSTANT)) {
{{- sums.over_channels("dc_at", "dys", shape) }}
      }
      if (has(WANTS_DZ)) {
{{- tiles.store(element, "dz", "sum_of_parts(s, t)", threads, channels, tile) }}
      }
      workgroupBarrier();

      // 4. Walk down.
      for (var turn = walked; turn > 0u; turn--) {
        let t = turn - 1u;
        let step_size = step_sizes[slot * {{ row }}u + t];
        let input = inputs[slot * {{ row }}u + t];
        let slope = slopes[slot * {{ row }}u + t];
        let dy = dys[slot * {{ row }}u + t];
        let x = step_size * input;
{{- read_map("b", "B_CONSTANT") }}
{{- read_map("c", "C_CONSTANT") }}
{{- decays() }}
        let cut = codes[t] == RESET;
        if (lane == 0u) {
          dzs[slot * {{ row }}u + t] = x;
        }
        var w = {{ V }}();
        var v = {{ V }}();
{%- for k in range(vectors) %}
        {
          let place = t * {{ vectors * pitch }}u + {{ k * pitch }}u + thread;
          var before = start{{ k }};
          if (t > 0u) {
            before = kept_states[place - {{ vectors * pitch }}u];
          }
          let g = carry{{ k }} + (drift{{ k }} + dy * c{{ k }});
          let q = decay{{ k }}.by * before + decay{{ k }}.keep * before;
          let gq = select(g * q, {{ V }}(), cut);
          carry{{ k }} = select(decay{{ k }}.keep * g, {{ V }}(), cut);
          drift{{ k }} = select(decay{{ k }}.by * g, {{ V }}(), cut);
          w += g * b{{ k }};
          v += {% if k == 0 %}a0{% else %}a{{ k }}{% endif %} * gq;
          da{{ k }} += step_size * gq;
          db{{ k }} += x * g;
          kept_states[place] = g;
        }
{%- endfor %}
        let w_sum = (w.x + w.y) + (w.z + w.w);
        let v_sum = LN_2 * ((v.x + v.y) + (v.z + v.w));
        let ddelta_part = slope * (input * w_sum + v_sum);
        parts[thread * {{ row }}u + t] = skip * dy + step_size * w_sum;
        ddelta_parts[thread * {{ row }}u + t] = ddelta_part;
        ddelta_bias += ddelta_part;
        dd += dy * input;
      }
      workgroupBarrier();

      // 5. dB, du and ddelta.
      if (has(WANTS_DB) && !has(B_CONSTANT)) {
{{- sums.over_channels("db_at", "dzs", shape) }}
      }
      if (has(WANTS_DU)) {
{{- tiles.store(element, "du", "sum_of_parts(s, t)", threads, channels, tile) }}
      }
      if (has(WANTS_DDELTA)) {
{{- tiles.store(element, "ddelta", "sum_of_ddelta_parts(s, t)", threads, channels, tile) }}
      }
      workgroupBarrier();
    }
  }

  if (alive) {
{%- for k in range(vectors) %}
    carry{{ k }} += drift{{ k }};
{%- endfor %}
    kept = {{ as_array("carry") }};
    for (var i = 0u; i < own; i++) {
      scratch[params.carry_at + state + i] = bitcast<u32>(kept[i]);
    }
{{- sums.over_time(as_array("da"), "params.da_at + select(state + i, (row * params.states + n + i) * params.channels + channel, has(TIED))") }}
    if (has(B_CONSTANT)) {
{{- sums.over_time(as_array("db"), "params.db_at + state + i") }}
    }
    if (has(C_CONSTANT)) {
{{- sums.over_time(as_array("dc"), "params.dc_at + state + i") }}
    }
    if (lane == 0u) {
      add(params.dd_at + line, dd);
    }
    add(params.ddelta_bias_at + (row * {{ lanes }}u + lane) * params.channels + channel, ddelta_bias);
  }
}
