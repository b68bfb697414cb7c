{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "selective_scan/tile.wgsl" as tiles -%}
{%- set threads = block[0] -%}
{%- set channels = threads // lanes -%}
{%- set row = tile + 1 -%}
{#- States go in vectors of four; a lone state goes alone. -#}
{%- set width = 1 if states == 1 else 4 -%}
{%- set vectors = states // width -%}
{%- set V = "f32" if width == 1 else "vec4<f32>" -%}
{%- set scan = stage == "scan" -%}
{#- States that a function `f` gives, as the registers `name0`, `name1`, ... A loop keeps the text short. -#}
{%- macro load_states(keyword, name, f) %}
  for (var i = 0u; i < own; i++) {
    kept[i] = {{ f }};
  }
{%- for k in range(vectors) %}
  {{ keyword }} {{ name }}{{ k }} = {% if width == 1 %}kept[0]{% else %}vec4<f32>(kept[{{ 4 * k }}], kept[{{ 4 * k + 1 }}], kept[{{ 4 * k + 2 }}], kept[{{ 4 * k + 3 }}]){% endif %};
{%- endfor %}
{%- endmacro -%}
{#- The states, to be written one by one. -#}
{%- macro states_as_array() %}array<f32, {{ states }}>({% for k in range(vectors) %}{% if k > 0 %}, {% endif %}{% if width == 1 %}h0{% else %}h{{ k }}.x, h{{ k }}.y, h{{ k }}.z, h{{ k }}.w{% endif %}{% endfor %}){% endmacro -%}
// Selective scan, {% if scan %}forward{% else %}first pass of the chunked forward: the state that each chunk of time ends with, from zero{% endif %}; {{ element }}, up to {{ states * lanes }} states.
//
//   Δ = clamp(softplus(delta + delta_bias)),  h = exp(Δ A) h + Δ B u
{%- if scan %},  out = (Σ_n C h + D u) silu(z)
{%- else %}; Σ Δ
{%- endif %}
//
// A workgroup of {{ threads }} takes {{ channels }} channels of one group, of one row, over one span of time (the whole
// row, or a chunk of it), in tiles of {{ tile }} steps. {{ lanes }} neighbouring invocations share a channel; each keeps
// {{ states }} states in registers. Per tile:
//   1. all stage Δ and u, coalesced along the fastest axis, and B {% if scan %}and C {% endif %}once for all channels;
//   2. each walks the tile's steps with its states{% if scan %} and leaves its part of y{% endif %};
{%- if scan %}
//   3. all add the parts, gate and write, coalesced again.
{%- endif %}
// Steps outside the span, and padding, get Δ = 0: decay 1, input 0. A reset selects a zero state.
// Workgroup memory, f32: Δ, u [{{ channels }}][{{ row }}]; B{% if scan %}, C{% endif %} [{{ tile }}][{{ states * lanes }}]
{%- if scan %}; y [{{ threads }}][{{ row }}]{% endif %}. The odd stride of rows keeps the banks apart.
{%- if scan %}
// Moves 3 elements per (b, d, l), 4 with z, and B and C once per {{ channels }} channels. {{ states * lanes }} exponentials per
// (b, d, l): bound by them from about 16 states (f32) or 5 (16 bits) up, by memory below.
{%- else %}
// Moves 2 elements per (b, d, l), and B once per {{ channels }} channels; bound by exponentials as the scan is.
{%- endif %}

struct Params {
  rows: u32,         // batch entries, or packed sequences
  channels: u32,
  steps: u32,
  states: u32,
  groups: u32,
  start: u32,        // the first step, where a long row is scanned in several dispatches
  chunks: u32,       // spans of time side by side
  chunk: u32,        // steps of a span; it and start are multiples of {{ tile }}
  checkpoints: u32,
  flags: u32,
  delta_min: f32,
  delta_max: f32,
  // Element indices within the bindings, and strides: of batch entries, of the outer one of
  // channel and time (`slow`), of groups.
  u_at: u32, u_batch: u32, u_slow: u32,
  delta_at: u32, delta_batch: u32, delta_slow: u32,
  b_at: u32, b_batch: u32, b_group: u32, b_slow: u32,
{%- if scan %}
  c_at: u32, c_batch: u32, c_group: u32, c_slow: u32,
  z_at: u32, z_batch: u32, z_slow: u32,
  out_at: u32, out_batch: u32, out_slow: u32,
  d_at: u32, h0_at: u32, last_at: u32, saved_at: u32,
{%- else %}
  carry_at: u32, sums_at: u32,
{%- endif %}
  a_at: u32, delta_bias_at: u32, positions_at: u32,
}

{{ tiles.flags() }}
const SAVE: u32 = 2048u;
const LAST: u32 = 4096u;
const CONTINUES: u32 = 16384u;    // the state comes from where it is left, in last_state
const CUT: u32 = 0xffffffffu; // in place of Σ Δ: nothing from before the chunk reaches its end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> u: array<u32>;
@group(0) @binding(2) var<storage, read_write> delta: array<u32>;
@group(0) @binding(3) var<storage, read_write> b: array<u32>;
{%- if not scan %}
@group(0) @binding(4) var<storage, read_write> a: array<u32>;
@group(0) @binding(5) var<storage, read_write> delta_bias: array<u32>;
@group(0) @binding(6) var<storage, read_write> positions: array<u32>;
@group(0) @binding(7) var<storage, read_write> carries: array<u32>;
{%- set small = { "a": "a", "delta_bias": "delta_bias", "positions": "positions" } %}
{%- else %}
@group(0) @binding(4) var<storage, read_write> c: array<u32>;
@group(0) @binding(5) var<storage, read_write> z: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
{%- if direct %}
@group(0) @binding(7) var<storage, read_write> a: array<u32>;
@group(0) @binding(8) var<storage, read_write> d: array<u32>;
@group(0) @binding(9) var<storage, read_write> delta_bias: array<u32>;
@group(0) @binding(10) var<storage, read_write> h0: array<u32>;
@group(0) @binding(11) var<storage, read_write> positions: array<u32>;
@group(0) @binding(12) var<storage, read_write> last_state: array<u32>;
@group(0) @binding(13) var<storage, read_write> saved: array<u32>;
{%- set small = { "a": "a", "d": "d", "delta_bias": "delta_bias", "h0": "h0", "positions": "positions", "last_state": "last_state", "saved": "saved" } %}
{%- else %}
@group(0) @binding(7) var<storage, read_write> scratch: array<u32>;   // A, D, delta_bias, h0, positions
@group(0) @binding(8) var<storage, read_write> workspace: array<u32>; // last_state, saved
{%- set small = { "a": "scratch", "d": "scratch", "delta_bias": "scratch", "h0": "scratch", "positions": "scratch", "last_state": "workspace", "saved": "workspace" } %}
{%- endif %}
{%- endif %}

var<workgroup> span_first: u32;
var<workgroup> span_end: u32;
var<workgroup> codes: array<u32, {{ tile }}>;
var<workgroup> step_sizes: array<f32, {{ channels * row }}>;
var<workgroup> inputs: array<f32, {{ channels * row }}>;
var<workgroup> tile_b: array<{{ V }}, {{ tile * lanes * vectors }}>;
{%- if scan %}
var<workgroup> tile_c: array<{{ V }}, {{ tile * lanes * vectors }}>;
var<workgroup> parts: array<f32, {{ threads * row }}>;
{%- endif %}

{{ elements.load(element, "u") }}
{{ elements.load(element, "delta") }}
{{ elements.load(element, "b") }}
{%- if scan %}
{{ elements.load(element, "c") }}
{{ elements.load(element, "z") }}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("out") }}
{%- endif %}
{%- endif %}
{{ activation.exp_accurate() }}
{{ activation.softplus() }}
{{ activation.exp2_minus_one(V) }}
{%- if scan %}
{{ activation.silu() }}
{%- endif %}

{{ tiles.reads(small) }}

// Constant maps are f32 whatever the activations are.
fn constant_b(channel: u32, n: u32) -> f32 {
  if (has(B_CONSTANT)) {
    return bitcast<f32>(b[params.b_at + channel * params.states + n]);
  }
  return 0.0;
}
{%- if scan %}

fn constant_c(channel: u32, n: u32) -> f32 {
  if (has(C_CONSTANT)) {
    return bitcast<f32>(c[params.c_at + channel * params.states + n]);
  }
  return 0.0;
}

// The state that the span begins with; `line` counts rows, channels and spans.
fn initial(line: u32, n: u32) -> f32 {
  if (has(CONTINUES)) {
    return bitcast<f32>({{ small.last_state }}[params.last_at + line * params.states + n]);
  }
  if (has(HAS_H0)) {
    return bitcast<f32>({{ small.h0 }}[params.h0_at + line * params.states + n]);
  }
  return 0.0;
}
{%- endif %}
{%- if scan %}

// out of channel `first_channel + slot` at the tile's step t, once all parts of y are there.
fn gated(batch: u32, first_channel: u32, slot: u32, start: u32, t: u32) -> f32 {
  let time = start + t;
  let channel = first_channel + slot;
  var y = parts[slot * {{ lanes * row }}u + t];
{%- for lane in range(1, lanes) %}
  y += parts[slot * {{ lanes * row }}u + {{ lane * row }}u + t];
{%- endfor %}
  if (has(HAS_Z)) {
    y *= silu(load_z(params.z_at + batch * params.z_batch + place(channel, time, params.z_slow)));
  }
  if (code(batch, time) == PADDING) {
    y = 0.0;
  }
  return y;
}
{%- endif %}

@compute @workgroup_size({{ threads }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  // Which channels, of which row, over which span. Workgroups beyond the last have no channel
  // and an empty span.
  let group_channels = params.channels / params.groups;
  let tiles = (group_channels + {{ channels - 1 }}u) / {{ channels }}u;
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let tile = id % tiles;
  let group = id / tiles % params.groups;
  let span = id / (tiles * params.groups) % params.chunks;
  let row = id / (tiles * params.groups * params.chunks);
  let batch = select(row, 0u, has(PACKED));
  let first_channel = group * group_channels + tile * {{ channels }}u;
  let live = select(0u, min({{ channels }}u, group_channels - tile * {{ channels }}u), row < params.rows);
  if (thread == 0u) {
    var first = 0u;
    var end = 0u;
    if (row < params.rows) {
      end = params.steps;
      if (has(PACKED)) {
        first = {{ small.positions }}[params.positions_at + row];
        end = {{ small.positions }}[params.positions_at + row + 1u];
      }
      first = max(first, params.start + span * params.chunk);
      end = min(end, params.start + (span + 1u) * params.chunk);
    }
    span_first = first;
    span_end = max(first, end);
  }
  let first = workgroupUniformLoad(&span_first);
  let end = workgroupUniformLoad(&span_end);

  // This invocation's channel, and what stays in its registers.
  let lane = thread % {{ lanes }}u;
  let slot = thread / {{ lanes }}u;
  let channel = first_channel + slot;
  let alive = slot < live;
  let n = lane * {{ states }}u;
  let line = (row * params.channels + channel) * params.chunks + span;
  // States of this invocation; the registers behind them hold 0, which changes nothing.
  let own = select(0u, min({{ states }}u, max(params.states, n) - n), alive);
  var kept = array<f32, {{ states }}>();
{{- load_states("let", "a", "decay(channel, n + i)") }}
{{- load_states("var", "b", "constant_b(channel, n + i)") }}
{%- if scan %}
{{- load_states("var", "c", "constant_c(channel, n + i)") }}
{{- load_states("var", "h", "initial(line, n + i)") }}
{%- else %}
{%- for k in range(vectors) %}
  var h{{ k }} = {{ V }}();
{%- endfor %}
{%- endif %}
{%- if scan %}
  // The first lane adds the skip.
  var skip = 0.0;
  if (has(HAS_D) && alive && lane == 0u) {
    skip = bitcast<f32>({{ small.d }}[params.d_at + channel]);
  }
  let c_first = params.c_at + batch * params.c_batch + group * params.c_group;
{%- else %}
  var sum = 0.0;
  var cut = false;
{%- endif %}
  let channel_last = has(CHANNEL_LAST);
  // A tile's elements, along its fastest axis first: time, of live channels, or all channels.
  let elements = select(live * {{ tile }}u, {{ channels * tile }}u, channel_last);
{%- if scan %}
  let out_first = params.out_at + batch * params.out_batch;
{%- endif %}
  let u_first = params.u_at + batch * params.u_batch;
  let delta_first = params.delta_at + batch * params.delta_batch;
  let b_first = params.b_at + batch * params.b_batch + group * params.b_group;

  for (var start = first / {{ tile }}u * {{ tile }}u; start < end; start += {{ tile }}u) {
    // 1. Stage the tile.
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
      var step_size = 0.0;
      var input = 0.0;
      if (s < live && time >= first && time < end && code(batch, time) != PADDING) {
        input = load_u(u_first + place(first_channel + s, time, params.u_slow));
        let raw = load_delta(delta_first + place(first_channel + s, time, params.delta_slow));
        step_size = step_size_of(biased(raw, first_channel + s));
      }
      step_sizes[s * {{ row }}u + t] = step_size;
      inputs[s * {{ row }}u + t] = input;
    }
    for (var e = thread; e < {{ tile * lanes * vectors }}u; e += {{ threads }}u) {
      let t = select(e % {{ tile }}u, e / {{ lanes * vectors }}u, channel_last);
      let v = select(e / {{ tile }}u, e % {{ lanes * vectors }}u, channel_last);
      let time = start + t;
      let inside = time >= first && time < end && live > 0u;
      var map_b = {{ V }}();
{%- if scan %}
      var map_c = {{ V }}();
{%- endif %}
{%- if width == 1 %}
      if (inside && params.states > 0u) {
        if (!has(B_CONSTANT)) {
          map_b = load_b(b_first + place(0u, time, params.b_slow));
        }
{%- if scan %}
        if (!has(C_CONSTANT)) {
          map_c = load_c(c_first + place(0u, time, params.c_slow));
        }
{%- endif %}
      }
{%- else %}
      let count = select(0u, min(4u, max(params.states, v * 4u) - v * 4u), inside);
      for (var i = 0u; i < count; i++) {
        if (!has(B_CONSTANT)) {
          map_b[i] = load_b(b_first + place(v * 4u + i, time, params.b_slow));
        }
{%- if scan %}
        if (!has(C_CONSTANT)) {
          map_c[i] = load_c(c_first + place(v * 4u + i, time, params.c_slow));
        }
{%- endif %}
      }
{%- endif %}
      tile_b[t * {{ lanes * vectors }}u + v] = map_b;
{%- if scan %}
      tile_c[t * {{ lanes * vectors }}u + v] = map_c;
{%- endif %}
    }
    workgroupBarrier();

    // 2. Walk it.
    let walked = select(0u, min({{ tile }}u, end - start), alive);
    for (var t = 0u; t < walked; t++) {
      if (codes[t] == RESET) {
{%- for k in range(vectors) %}
        h{{ k }} = {{ V }}();
{%- endfor %}
{%- if not scan %}
        cut = true;
{%- endif %}
      }
      let step_size = step_sizes[slot * {{ row }}u + t];
      let input = inputs[slot * {{ row }}u + t];
      let x = step_size * input;
      let maps = t * {{ lanes * vectors }}u + lane * {{ vectors }}u;
      if (!has(B_CONSTANT)) {
{%- for k in range(vectors) %}
        b{{ k }} = tile_b[maps + {{ k }}u];
{%- endfor %}
      }
      // exp(Δ A) - 1; h + (exp(Δ A) - 1) h loses nothing where the decay is close to 1.
{%- for k in range(vectors) %}
      var m{{ k }}: {{ V }};
{%- endfor %}
      if (has(TIED)) {
        let m = exp2_minus_one({{ V }}(step_size * a0{% if width == 4 %}.x{% endif %}));
{%- for k in range(vectors) %}
        m{{ k }} = m;
{%- endfor %}
      } else {
{%- for k in range(vectors) %}
        m{{ k }} = exp2_minus_one(step_size * a{{ k }});
{%- endfor %}
      }
{%- for k in range(vectors) %}
      h{{ k }} = (m{{ k }} * h{{ k }} + h{{ k }}) + x * b{{ k }};
{%- endfor %}
{%- if scan %}
      if (!has(C_CONSTANT)) {
{%- for k in range(vectors) %}
        c{{ k }} = tile_c[maps + {{ k }}u];
{%- endfor %}
      }
      var y = c0 * h0;
{%- for k in range(1, vectors) %}
      y += c{{ k }} * h{{ k }};
{%- endfor %}
      parts[thread * {{ row }}u + t] = skip * input + {% if width == 1 %}y{% else %}((y.x + y.y) + (y.z + y.w)){% endif %};
{%- else %}
      sum += step_size;
{%- endif %}
    }
    workgroupBarrier();
{%- if scan %}

    // 3. Write out. The next tile's staging touches nothing that is read here, and its barrier
    // stands before the parts are overwritten.
{{- tiles.store(element, "out", "gated(batch, first_channel, s, start, t)", threads, channels, tile) }}

    // The state after this tile's last step, where it is one to keep.
    let last = min(start + {{ tile }}u, params.steps) - 1u;
    let keep = (last + 1u) % CHECKPOINT == 0u || last + 1u == params.steps;
    if (has(SAVE) && alive && keep && last >= first && last < end) {
      let checkpoint = (batch * params.channels + channel) * params.checkpoints + last / CHECKPOINT;
      kept = {{ states_as_array() }};
      for (var i = 0u; i < own; i++) {
        {{ small.saved }}[params.saved_at + checkpoint * params.states + n + i] = bitcast<u32>(kept[i]);
      }
    }
{%- endif %}
  }
{%- if scan %}

  if (has(LAST) && alive) {
    let state = params.last_at + (row * params.channels + channel) * params.states;
    kept = {{ states_as_array() }};
    for (var i = 0u; i < own; i++) {
      {{ small.last_state }}[state + n + i] = bitcast<u32>(kept[i]);
    }
  }
{%- else %}

  if (alive) {
    let state = params.carry_at + line * params.states;
    kept = {{ states_as_array() }};
    for (var i = 0u; i < own; i++) {
      carries[state + n + i] = bitcast<u32>(kept[i]);
    }
    if (lane == 0u) {
      carries[params.sums_at + line] = select(bitcast<u32>(sum), CUT, cut);
    }
  }
{%- endif %}
}
