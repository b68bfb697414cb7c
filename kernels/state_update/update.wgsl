{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activations -%}
// State update: a few steps of the selective scan on states in slots; activations {{ element }}, states {{ state }}.
//
//   Δ = clamp(softplus(dt + bias)),  h_n = exp(Δ A_n) h_n + Δ B_n x,  out = (Σ_n C_n h_n + D x) silu(z)
//
// A workgroup takes {{ block[0] }} / lanes channels of one batch entry, `lanes` neighbouring invocations a channel. Of its
// states a lane has every `lanes`-th pair, in registers over all steps: pair k begins at state 2 (lane + k lanes),
// so that neighbours read neighbours and a pair of 16-bit states is a word. Of each step the first
// invocations make a channel each: step size and input, and where A is tied the only exponential; then all walk
// their states, and the lanes' parts of y are added up in workgroup memory.
//
// Decays are formed as their distance from 1, so that long memories do not drift. Bytes per (entry, channel): {{ 8 if state == "f32" else 4 }} N
// and the activations, B and C besides; bound by memory, or by latency for few entries.

struct Params {
  batch: u32,
  steps: u32,          // M
  channels: u32,
  width: u32,          // P, channels of a head
  group_channels: u32, // channels of a group
  states: u32,         // N
  slots: u32,          // R
  lanes: u32,          // a power of 2
  parts: u32,          // workgroups of an entry
  flags: u32,
  dt_min: f32,
  dt_max: f32,
  // Element indices within the bindings, and strides in elements.
  state_at: u32, state_slot: u32,
  x_at: u32, x_entry: u32, x_step: u32,
  b_at: u32, b_entry: u32, b_step: u32, b_group: u32,
  c_at: u32, c_entry: u32, c_step: u32, c_group: u32,
  out_at: u32, out_entry: u32, out_step: u32,
  states_at: u32,
  a_at: u32,
  // Words of scratch, f32.
  dt_at: u32, dt_entry: u32, dt_step: u32,
  z_at: u32, z_entry: u32, z_step: u32,
  d_at: u32, bias_at: u32,
  // Words of scratch: indices, of so many words each, the low one first; where the sign is, if anywhere.
  read_at: u32, read_words: u32, read_sign: u32,
  write_at: u32, write_words: u32, write_sign: u32,
}

const SOFTPLUS: u32 = 1u;
const CLAMP: u32 = 2u;
const KEEP_STATE: u32 = 4u;
const DT_TIED: u32 = 8u;
const A_TIED: u32 = 16u;
const D_TIED: u32 = 32u;
const BIAS_TIED: u32 = 64u;
const HAS_Z: u32 = 128u;
const HAS_D: u32 = 256u;
const HAS_BIAS: u32 = 512u;
const HAS_STATES: u32 = 1024u;
const HAS_READ: u32 = 2048u;
const HAS_WRITE: u32 = 4096u;

const NONE: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> state: array<{{ "u32" if state == "f32" else "atomic<u32>" }}>;
@group(0) @binding(2) var<storage, read_write> x: array<u32>;
@group(0) @binding(3) var<storage, read_write> b: array<u32>;
@group(0) @binding(4) var<storage, read_write> c: array<u32>;
@group(0) @binding(5) var<storage, read_write> a: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(7) var<storage, read_write> states: array<{{ "u32" if state == "f32" else "atomic<u32>" }}>;
@group(0) @binding(8) var<storage, read_write> scratch: array<u32>;

// Of each channel of the workgroup.
var<workgroup> sizes: array<f32, {{ block[0] }}>;      // Δ, or where A is tied the decay's distance from 1
var<workgroup> inputs: array<f32, {{ block[0] }}>;     // Δ x
var<workgroup> sums: array<f32, {{ block[0] }}>;       // a lane's part of y
{{ activations.exp_accurate() }}
{{ activations.softplus() }}
{{ activations.silu() }}
{{ activations.exp2_minus_one("f32") }}
{%- for buffer in ["x", "b", "c"] %}
{{ elements.load(element, buffer) }}
{%- endfor %}

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}

{{ elements.rounding(element, "element_bits") }}
{{ elements.rounding(state, "state_bits") }}
{%- if element != "f32" %}
{{ elements.store_masked("out") }}
{%- endif %}
{%- if state != "f32" %}
{{ elements.store_masked("state") }}
{{ elements.store_masked("states") }}
{%- endif %}

fn store_out(i: u32, value: f32) {
{%- if element == "f32" %}
  out[i] = element_bits(value);
{%- else %}
  let shift = (i & 1u) * 16u;
  store_masked_out(i >> 1u, element_bits(value) << shift, 0xffffu << shift);
{%- endif %}
}

fn state_value(bits: u32) -> f32 {
{%- if state == "f32" %}
  return bitcast<f32>(bits);
{%- elif state == "bf16" %}
  return bitcast<f32>(bits << 16u);
{%- else %}
  return unpack2x16float(bits & 0xffffu).x;
{%- endif %}
}

fn load_state(i: u32) -> f32 {
{%- if state == "f32" %}
  return bitcast<f32>(state[i]);
{%- else %}
  return state_value((atomicLoad(&state[i >> 1u]) >> ((i & 1u) * 16u)) & 0xffffu);
{%- endif %}
}
{% for buffer in ["state", "states"] %}
// Stores `count` states, 1 or 2, from element i on.
fn store_pair_{{ buffer }}(i: u32, bits: vec2<u32>, count: u32) {
{%- if state == "f32" %}
  {{ buffer }}[i] = bits.x;
  if (count == 2u) {
    {{ buffer }}[i + 1u] = bits.y;
  }
{%- else %}
  if (count == 2u && (i & 1u) == 0u) {
    store_masked_{{ buffer }}(i >> 1u, bits.x | (bits.y << 16u), 0xffffffffu);
    return;
  }
  let shift = (i & 1u) * 16u;
  store_masked_{{ buffer }}(i >> 1u, bits.x << shift, 0xffffu << shift);
  if (count == 2u) {
    let after = ((i + 1u) & 1u) * 16u;
    store_masked_{{ buffer }}((i + 1u) >> 1u, bits.y << after, 0xffffu << after);
  }
{%- endif %}
}
{% endfor %}
fn word(i: u32) -> f32 {
  return bitcast<f32>(scratch[i]);
}

// The slot of an entry, or NONE: negative, or beyond them all.
fn slot_of(entry: u32, at: u32, words: u32, sign: u32) -> u32 {
  let first = at + entry * words;
  let slot = scratch[first];
  let negative = sign != NONE && (scratch[first + min(sign, 1u)] >> 31u) != 0u;
  return select(slot, NONE, negative || slot >= params.slots);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let entry = id / params.parts;
  let columns = {{ block[0] }}u / params.lanes;
  let first = (id % params.parts) * columns;
  let lane = thread % params.lanes;
  let column = thread / params.lanes;
  let channel = first + column;

  // Without a slot to read an entry is padding, and beyond the batch it is nothing.
  var slot = NONE;
  if (entry < params.batch) {
    slot = entry;
    if (has(HAS_READ)) {
      slot = slot_of(entry, params.read_at, params.read_words, params.read_sign);
    }
  }
  let present = slot != NONE;
  let owns = present && channel < params.channels;

  // The lane's states, and A: pair k in elements 2 k and 2 k + 1.
  let line = channel * params.states;
  let pair_step = 2u * params.lanes;
  var h: array<f32, 4>;
  var rates: array<f32, 4>;
  for (var i = 0u; i < 4u; i++) {
    let n = 2u * lane + (i >> 1u) * pair_step + (i & 1u);
    h[i] = 0.0;
    rates[i] = 0.0;
    if (owns && n < params.states) {
      h[i] = load_state(params.state_at + slot * params.state_slot + line + n);
      if (!has(A_TIED)) {
        rates[i] = a[params.a_at + line + n] * 1.44269504;
      }
    }
  }

  for (var step = 0u; step < params.steps; step++) {
    // The first invocations make a channel each.
    let made = first + thread;
    if (present && thread < columns && made < params.channels) {
      let head = made / params.width;
      var size = word(params.dt_at + entry * params.dt_entry + step * params.dt_step
        + select(made, head, has(DT_TIED)));
      if (has(HAS_BIAS)) {
        size += word(params.bias_at + select(made, head, has(BIAS_TIED)));
      }
      if (has(SOFTPLUS)) {
        size = softplus(size);
      }
      if (has(CLAMP)) {
        size = min(max(size, params.dt_min), params.dt_max);
      }
      inputs[thread] = size
        * load_x(params.x_at + entry * params.x_entry + step * params.x_step + made);
      if (has(A_TIED)) {
        size = exp2_minus_one(size * (a[params.a_at + head] * 1.44269504));
      }
      sizes[thread] = size;
    }
    workgroupBarrier();

    var sum = 0.0;
    if (owns) {
      let size = sizes[column];
      let taken = inputs[column];
      let group = channel / params.group_channels;
      let b_at = params.b_at + entry * params.b_entry + step * params.b_step + group * params.b_group;
      let c_at = params.c_at + entry * params.c_entry + step * params.c_step + group * params.c_group;
      let kept_at = params.states_at
        + ((entry * params.steps + step) * params.channels + channel) * params.states;
      for (var k = 0u; k < 2u; k++) {
        let n = 2u * lane + k * pair_step;
        if (n < params.states) {
          let count = min(params.states - n, 2u);
          var bits = vec2<u32>(0u);
          for (var j = 0u; j < count; j++) {
            let i = 2u * k + j;
            var m = size;
            if (!has(A_TIED)) {
              m = exp2_minus_one(size * rates[i]);
            }
            let value = (m * h[i] + h[i]) + taken * load_b(b_at + n + j);
            sum += load_c(c_at + n + j) * value;
            bits[j] = state_bits(value);
            // As it is stored: the next step goes on from there.
            h[i] = state_value(bits[j]);
          }
          if (has(HAS_STATES)) {
            store_pair_states(kept_at + n, bits, count);
          }
        }
      }
    }
    sums[thread] = sum;
    workgroupBarrier();
    for (var half = params.lanes / 2u; half > 0u; half /= 2u) {
      if (lane < half) {
        sums[thread] += sums[thread + half];
      }
      workgroupBarrier();
    }
    if (lane == 0u && entry < params.batch && channel < params.channels) {
      var y = 0.0;
      if (present) {
        y = sums[thread];
        let head = channel / params.width;
        if (has(HAS_D)) {
          y += word(params.d_at + select(channel, head, has(D_TIED)))
            * load_x(params.x_at + entry * params.x_entry + step * params.x_step + channel);
        }
        if (has(HAS_Z)) {
          y *= silu(word(params.z_at + entry * params.z_entry + step * params.z_step + channel));
        }
      }
      store_out(params.out_at + entry * params.out_entry + step * params.out_step + channel, y);
    }
  }

  // Back into the slot that is written.
  if (!owns || has(KEEP_STATE)) {
    return;
  }
  if (has(HAS_WRITE)) {
    slot = slot_of(entry, params.write_at, params.write_words, params.write_sign);
  }
  if (slot == NONE) {
    return;
  }
  for (var k = 0u; k < 2u; k++) {
    let n = 2u * lane + k * pair_step;
    if (n < params.states) {
      let bits = vec2<u32>(state_bits(h[2u * k]), state_bits(h[2u * k + 1u]));
      let count = min(params.states - n, 2u);
      store_pair_state(params.state_at + slot * params.state_slot + line + n, bits, count);
    }
  }
}
