{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activations -%}
// Causal convolution, a few steps from a state that is moved on in place; {{ element }}.
//
//   out_i = activation(bias + Σ_{d < W} weight_{W-1-d} xs_{i-d}), where xs goes on from the state.
//
// Entry k of a state holds, shifted, the input K - k steps before step 0, and afterwards that before
// step S; circular, input c lies at c mod K. One invocation per (batch entry, channel), neighbours along
// the channels. Bytes per (entry, channel): the state's history, x and out; bound by latency for few
// entries, else by memory.

struct Params {
  lines: u32,      // batch entries times channels
  channels: u32,
  steps: u32,      // S
  width: u32,      // W
  slots: u32,      // R
  entries: u32,    // K
  flags: u32,
  // Element indices within the bindings, and strides in elements.
  x_at: u32, x_batch: u32, x_channel: u32, x_step: u32,
  y_at: u32, y_batch: u32, y_channel: u32, y_step: u32,
  state_at: u32, state_slot: u32, state_channel: u32, state_entry: u32,
  // Words of scratch, f32: (D, W), (D).
  weight_at: u32, bias_at: u32,
  // Indices: the first byte; bytes of an element, of which the low 4 count; where the sign begins.
  places_at: u32, places_bytes: u32,
  slots_at: u32, slots_bytes: u32, slots_sign_at: u32,
}

const SILU: u32 = 1u;
const HAS_BIAS: u32 = 2u;
const CIRCULAR: u32 = 4u;
const INDEXED: u32 = 8u;
const WIDE_STATE: u32 = 16u;    // f32

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(3) var<storage, read_write> conv_state: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(5) var<storage, read_write> cache_seqlens: array<u32>;  // (B)
@group(0) @binding(6) var<storage, read_write> state_indices: array<u32>;  // (B)
{{ activations.exp_accurate() }}
{{ activations.silu() }}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("y") }}
{{ elements.store_masked("conv_state") }}
{%- endif %}

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}

// An element of x as it lies there: a word, or a half of one.
fn bits_of_x(i: u32) -> u32 {
{%- if element == "f32" %}
  return x[i];
{%- else %}
  return (x[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu;
{%- endif %}
}

{%- if element != "f32" %}

fn widened(bits: u32) -> f32 {
{%- if element == "bf16" %}
  return bitcast<f32>(bits << 16u);
{%- else %}
  return unpack2x16float(bits).x;
{%- endif %}
}
{%- endif %}

// The value of an entry's bits.
fn value(bits: u32) -> f32 {
{%- if element == "f32" %}
  return bitcast<f32>(bits);
{%- else %}
  return select(widened(bits), bitcast<f32>(bits), has(WIDE_STATE));
{%- endif %}
}

// An element of x as an entry of the state.
fn entry_of_x(i: u32) -> u32 {
{%- if element == "f32" %}
  return bits_of_x(i);
{%- else %}
  let bits = bits_of_x(i);
  return select(bits, bitcast<u32>(widened(bits)), has(WIDE_STATE));
{%- endif %}
}

fn load_entry(i: u32) -> u32 {
{%- if element != "f32" %}
  if (!has(WIDE_STATE)) {
    return (atomicLoad(&conv_state[i >> 1u]) >> ((i & 1u) * 16u)) & 0xffffu;
  }
{%- endif %}
  return atomicLoad(&conv_state[i]);
}

fn store_entry(i: u32, bits: u32) {
{%- if element != "f32" %}
  if (!has(WIDE_STATE)) {
    let shift = (i & 1u) * 16u;
    store_masked_conv_state(i >> 1u, bits << shift, 0xffffu << shift);
    return;
  }
{%- endif %}
  atomicStore(&conv_state[i], bits);
}

fn store_y(i: u32, value: f32) {
{%- if element == "f32" %}
  y[i] = rounded(value);
{%- else %}
  let shift = (i & 1u) * 16u;
  store_masked_y(i >> 1u, rounded(value) << shift, 0xffffu << shift);
{%- endif %}
}

fn low_word(word: u32, byte: u32, bytes: u32) -> u32 {
  return select(word, (word >> ((byte & 3u) * 8u)) & 0xffu, bytes == 1u);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let line = (workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z)) * {{ block[0] }}u + thread;
  if (line >= params.lines) {
    return;
  }
  let batch = line / params.channels;
  let channel = line % params.channels;
  let x_at = params.x_at + batch * params.x_batch + channel * params.x_channel;
  let y_at = params.y_at + batch * params.y_batch + channel * params.y_channel;

  // The slot: negative, or beyond them all, is padding.
  var slot = batch;
  var padding = false;
  if (has(INDEXED)) {
    let byte = params.slots_at + batch * params.slots_bytes;
    slot = low_word(state_indices[byte >> 2u], byte, params.slots_bytes);
    if (params.slots_sign_at != 0xffffffffu) {
      padding = (state_indices[(byte + params.slots_sign_at) >> 2u] >> 31u) != 0u;
    }
  }
  if (padding || slot >= params.slots) {
    for (var i = 0u; i < params.steps; i++) {
      store_y(y_at + i * params.y_step, 0.0);
    }
    return;
  }

  // Where step 0 belongs, and the history: past[d] is the entry d steps before.
  let state_at = params.state_at + slot * params.state_slot + channel * params.state_channel;
  let circular = has(CIRCULAR) && params.entries > 0u;
  var position = params.entries;
  if (circular) {
    let byte = params.places_at + batch * params.places_bytes;
    position = low_word(cache_seqlens[byte >> 2u], byte, params.places_bytes) % params.entries;
  }
  var past: array<u32, 8>;
  for (var d = 1u; d < params.width; d++) {
    let entry = select(position - d, position + params.entries - d, position < d);
    past[d] = load_entry(state_at + entry * params.state_entry);
  }

  for (var i = 0u; i < params.steps; i++) {
    past[0] = entry_of_x(x_at + i * params.x_step);
    var sum = 0.0;
    if (has(HAS_BIAS)) {
      sum = bitcast<f32>(scratch[params.bias_at + channel]);
    }
    for (var n = params.width; n > 0u; n--) {
      let weight = scratch[params.weight_at + channel * params.width + (params.width - n)];
      sum = fma(bitcast<f32>(weight), value(past[n - 1u]), sum);
    }
    store_y(y_at + i * params.y_step, select(sum, silu(sum), has(SILU)));
    if (circular) {
      store_entry(state_at + position * params.state_entry, past[0]);
      position = select(position + 1u, 0u, position + 1u == params.entries);
    }
    for (var n = params.width; n > 1u; n--) {
      past[n - 1u] = past[n - 2u];
    }
  }
  if (circular) {
    return;
  }

  // Shifted: the last entries are the history; those before come from S further on, or from x.
  let count = params.entries + 1u - params.width;
  for (var k = 0u; k < count; k++) {
    let later = k + params.steps;
    var entry = 0u;
    if (later < params.entries) {
      entry = load_entry(state_at + later * params.state_entry);
    } else {
      entry = entry_of_x(x_at + (later - params.entries) * params.x_step);
    }
    store_entry(state_at + k * params.state_entry, entry);
  }
  for (var d = 1u; d < params.width; d++) {
    store_entry(state_at + (params.entries - d) * params.state_entry, past[d]);
  }
}
