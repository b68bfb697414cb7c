{#- What the kernels of the scan share: flags, places, step sizes, and how a tile of results is written.
    Needs `params`, exp_accurate and softplus. -#}

{%- macro flags() %}
const SOFTPLUS: u32 = 1u;
const CLAMP: u32 = 2u;
const TIED: u32 = 4u;         // A is (D)
const B_CONSTANT: u32 = 8u;
const C_CONSTANT: u32 = 16u;
const HAS_D: u32 = 32u;
const HAS_Z: u32 = 64u;
const HAS_BIAS: u32 = 128u;
const HAS_H0: u32 = 256u;
const CODES: u32 = 512u;      // positions holds a code per (batch entry, step)
const PACKED: u32 = 1024u;    // positions holds the bounds of the sequences
const CHANNEL_LAST: u32 = 8192u;  // (B, L, D): the channel is the fastest axis, else time

const RESET: u32 = 1u;
const PADDING: u32 = 2u;
const CHECKPOINT: u32 = 256u;
const LOG2_E: f32 = 1.44269504;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{%- endmacro -%}

{#- `small` names the buffer of each small tensor. -#}
{%- macro reads(small) %}
// An element's place in its batch entry: time, or else the channel (the state of a map), is the
// fastest axis, the other one has the stride `slow`.
fn place(channel: u32, time: u32, slow: u32) -> u32 {
  return select(channel * slow + time, time * slow + channel, has(CHANNEL_LAST));
}

// A log2(e).
fn decay(channel: u32, n: u32) -> f32 {
  let i = select(channel * params.states + n, channel, has(TIED));
  return bitcast<f32>({{ small.a }}[params.a_at + i]) * LOG2_E;
}

// Whether the step is ordinary, a reset or padding.
fn code(batch: u32, time: u32) -> u32 {
  if (has(CODES)) {
    return {{ small.positions }}[params.positions_at + batch * params.steps + time];
  }
  return 0u;
}

// A raw step size with its bias.
fn biased(raw: f32, channel: u32) -> f32 {
  if (has(HAS_BIAS)) {
    return raw + bitcast<f32>({{ small.delta_bias }}[params.delta_bias_at + channel]);
  }
  return raw;
}

// The step size of a biased one.
fn step_size_of(p: f32) -> f32 {
  var s = p;
  if (has(SOFTPLUS)) {
    s = softplus(p);
  }
  if (has(CLAMP)) {
    s = clamp(s, params.delta_min, params.delta_max);
  }
  return s;
}
{%- endmacro -%}

{#- Writes the tile that begins at `start` to the tensor `out`: its value at slot s and step t is the
    expression `value`, steps from `first` to `end` and slots below `live` are there. `elements` are those
    of a tile, along its fastest axis first. -#}
{%- macro store(element, out, value, threads, channels, tile) %}
{%- if element == "f32" %}
    for (var e = thread; e < elements; e += {{ threads }}u) {
      let t = select(e % {{ tile }}u, e / {{ channels }}u, channel_last);
      let s = select(e / {{ tile }}u, e % {{ channels }}u, channel_last);
      if (s < live && start + t >= first && start + t < end) {
        let value = {{ value }};
        {{ out }}[{{ out }}_first + place(first_channel + s, start + t, params.{{ out }}_slow)] = rounded(value);
      }
    }
{%- else %}
    // By words: an invocation owns both halves of one, or the half that lies in this tile. A line
    // along the fastest axis has at most half as many words as elements, and one more.
    for (var e = thread; e < elements; e += {{ threads }}u) {
      let w = select(e % {{ tile }}u, e % {{ channels }}u, channel_last);
      let q = select(e / {{ tile }}u, e / {{ channels }}u, channel_last);
      // Where the line's index along the fastest axis is 0, and the elements that are ours.
      let line_first = {{ out }}_first + params.{{ out }}_slow * (q + select(first_channel, start, channel_last));
      let lowest = select(max(start, first), first_channel, channel_last);
      let inside = select((q < live), (start + q >= first && start + q < end), channel_last);
      let count = select(min(start + {{ tile }}u, end) - lowest, live, channel_last);
      let begin = line_first + lowest;
      let beyond = begin + select(0u, count, inside);
      let word = begin / 2u + w;
      var bits = 0u;
      var mask = 0u;
      for (var i = max(word * 2u, begin); i < min(word * 2u + 2u, beyond); i++) {
        let t = select(i - line_first - start, q, channel_last);
        let s = select(q, i - line_first - first_channel, channel_last);
        let shift = (i & 1u) * 16u;
        bits |= rounded({{ value }}) << shift;
        mask |= 0xffffu << shift;
      }
      store_masked_{{ out }}(word, bits, mask);
    }
{%- endif %}
{%- endmacro -%}
