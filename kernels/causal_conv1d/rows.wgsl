{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activations -%}
{#- What the kernels of the convolution share: where tensors lie, rows, and sums of taps. -#}

{#- ---- Parameters; a kernel uses some of them ------------------------------------------------------- -#}
{%- macro params() %}
struct Params {
  entries: u32,    // batch entries
  channels: u32,
  steps: u32,
  width: u32,      // W
  sequences: u32,  // where packed
  span: u32,       // tiles that a workgroup takes
  spans: u32,      // of a row
  flags: u32,
  // Element indices within the bindings, and strides in elements; y is out or dx.
  x_at: u32, x_batch: u32, x_channel: u32, x_time: u32,
  dout_at: u32, dout_batch: u32, dout_channel: u32, dout_time: u32,
  y_at: u32, y_batch: u32, y_channel: u32, y_time: u32,
  // Words of scratch, f32: (D, W), (D), (rows, D, W - 1) twice; a mask for each (entry, step), or
  // the bounds of the sequences.
  weight_at: u32, bias_at: u32, s0_at: u32, dfinal_at: u32, positions_at: u32,
  state_at: u32,   // words of what else is written
}

const SILU: u32 = 1u;
const HAS_BIAS: u32 = 2u;
const HAS_S0: u32 = 4u;
const HAS_DFINAL: u32 = 8u;
const HAS_DOUT: u32 = 16u;
const HAS_Y: u32 = 32u;
const MASKED: u32 = 64u;        // positions holds masks: bit d where the tap of distance d counts
const PACKED: u32 = 128u;       // positions holds bounds
const CHANNEL_LAST: u32 = 256u; // (B, L, D): the channel is the fastest axis, else time
const HAS_SUMS: u32 = 512u;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{%- endmacro -%}

{#- ---- A row with a state of its own: a batch entry, or a packed sequence ------------------------------ -#}
{%- macro row() %}
struct Row {
  number: u32,
  start: u32,
  end: u32,
}

fn bound(i: u32) -> u32 {
  return scratch[params.positions_at + i];
}

// The row that step t of a batch entry belongs to: where packed, the last that begins at or before it.
fn row_at(entry: u32, t: u32) -> Row {
  if (!has(PACKED)) {
    return Row(entry, 0u, params.steps);
  }
  var low = 0u;
  var above = params.sequences;
  while (above - low > 1u) {
    let middle = (low + above) / 2u;
    if (bound(middle) <= t) {
      low = middle;
    } else {
      above = middle;
    }
  }
  return row(low);
}

fn row(number: u32) -> Row {
  if (!has(PACKED)) {
    return Row(number, 0u, params.steps);
  }
  let start = bound(number);
  return Row(number, start, max(start, bound(number + 1u)));
}

fn entry_of(row: Row) -> u32 {
  return select(row.number, 0u, has(PACKED));
}

// Entry k of a state in scratch.
fn state(at: u32, row: Row, channel: u32, k: u32) -> f32 {
  return bitcast<f32>(scratch[at + (row.number * params.channels + channel) * (params.width - 1u) + k]);
}

// What lies `distance` before step t of the row: x, the initial state, or 0.
fn met(row: Row, channel: u32, t: u32, distance: u32) -> f32 {
  if (t >= row.start + distance) {
    return load_x(params.x_at + entry_of(row) * params.x_batch + channel * params.x_channel + (t - distance) * params.x_time);
  }
  if (has(HAS_S0)) {
    return state(params.s0_at, row, channel, params.width - 1u - (row.start + distance - t));
  }
  return 0.0;
}

// Which taps count at a step: all, but where documents are numbered.
fn mask_at(row: Row, t: u32) -> u32 {
  if (has(MASKED)) {
    return scratch[params.positions_at + entry_of(row) * params.steps + t];
  }
  return 0xffu;
}

fn weight(channel: u32, distance: u32) -> f32 {
  return bitcast<f32>(scratch[params.weight_at + channel * params.width + (params.width - 1u - distance)]);
}

// bias + the taps that count, the farthest first.
fn sum_of_taps(row: Row, channel: u32, t: u32, mask: u32) -> f32 {
  var sum = 0.0;
  if (has(HAS_BIAS)) {
    sum = bitcast<f32>(scratch[params.bias_at + channel]);
  }
  for (var i = params.width; i > 0u; i--) {
    let distance = i - 1u;
    let value = select(0.0, met(row, channel, t, distance), ((mask >> distance) & 1u) != 0u);
    sum = fma(weight(channel, distance), value, sum);
  }
  return sum;
}
{%- endmacro -%}

{#- ---- e_t = dout_t activation'(pre_t), 0 at padding ------------------------------------------------------ -#}
{%- macro e() %}
fn e_at(row: Row, channel: u32, t: u32) -> f32 {
  let mask = mask_at(row, t);
  if (mask == 0u || !has(HAS_DOUT)) {
    return 0.0;
  }
  let dout_value = load_dout(params.dout_at + entry_of(row) * params.dout_batch + channel * params.dout_channel + t * params.dout_time);
  if (!has(SILU)) {
    return dout_value;
  }
  let pre = sum_of_taps(row, channel, t, mask);
  let small = exp_accurate(-abs(pre));
  let sigmoid = select(small, 1.0, pre >= 0.0) / (1.0 + small);
  return dout_value * (sigmoid * (1.0 + pre * (1.0 - sigmoid)));
}
{%- endmacro -%}

{#- ---- Stores elements i and i + 1 of y, if both lie in one word, else the one that is meant ------------------- -#}
{%- macro stores(element) %}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("y") }}

// Word `word` of y: its halves that `low` and `high` say are ours.
fn store_halves(word: u32, first: f32, second: f32, low: bool, high: bool) {
  let mask = select(0u, 0xffffu, low) | select(0u, 0xffff0000u, high);
  store_masked_y(word, (rounded(first) | (rounded(second) << 16u)) & mask, mask);
}
{%- endif %}
{%- endmacro -%}
