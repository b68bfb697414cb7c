{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activations -%}
{%- import "causal_conv1d/rows.wgsl" as rows -%}
{%- set bld = layout == "bld" -%}
{%- set threads = block[0] -%}
{%- set reach = 7 -%}                     {#- steps behind a tile that its dx may reach -#}
{%- set sums = 9 -%}                      {#- of a channel: by distance, then that of the bias -#}
// Causal convolution, backward; {{ element }}, {{ "channels" if bld else "time" }} fastest.
//
//   e_t  = dout_t activation'(pre_t),  pre_t = bias + Σ_{d < W} weight_{W-1-d} x_{t-d}
//   dx_t = Σ_{d < W} weight_{W-1-d} e_{t+d}, with dfinal where t is among the last W - 1 steps of its row
//   sums = Σ_t e_t x_{t-d} for each distance d, and Σ_t e_t
//
// A workgroup of {{ threads }} takes {{ channels }} {{ "channels" if channels > 1 else "channel" }} of one row over a span of time, in tiles of {{ steps }} steps. Per tile all
// find e of the tile and of the W - 1 steps behind it, then dx and their part of the sums. Steps are
// neighbours {{ "in channels" if bld else "in time" }}. Workgroup memory, f32: e [{{ steps + reach }}][{{ channels }}]; the sums of all invocations [{{ sums }}][{{ threads }}].
// Moves 3 elements per (b, d, l), {{ reach }} steps of a tile once more; bound by memory, and by the W loads of x
// from the cache for each e and each sum.
{{ rows.params() }}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> dout: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(5) var<storage, read_write> parts: array<u32>;  // (entries spans, W + 1, D)

var<workgroup> tile: array<f32, {{ (steps + reach) * channels }}>;
var<workgroup> totals: array<f32, {{ sums * threads }}>;
{{ elements.load(element, "x") }}
{{ elements.load(element, "dout") }}
{{ rows.row() }}
{{ activations.exp_accurate() }}
{{ rows.e() }}
{{ rows.stores(element) }}

// dx of step t, which is step i of the tile, and channel c of it.
fn dx_value(entry: u32, channel: u32, t: u32, i: u32, c: u32) -> f32 {
  let row = row_at(entry, t);
  let history = params.width - 1u;
  var sum = 0.0;
  if (has(HAS_DFINAL) && t + history >= row.end) {
    sum = state(params.dfinal_at, row, channel, t + history - row.end);
  }
  for (var distance = 0u; distance < params.width; distance++) {
    var e = 0.0;
    if (t + distance < row.end && ((mask_at(row, t + distance) >> distance) & 1u) != 0u) {
      e = tile[(i + distance) * {{ channels }}u + c];
    }
    sum = fma(weight(channel, distance), e, sum);
  }
  return sum;
}

@compute @workgroup_size({{ threads }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  // Which span of which channels; surplus workgroups have nothing to do.
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let channel_blocks = (params.channels + {{ channels - 1 }}u) / {{ channels }}u;
  let slot = id / channel_blocks;
  let first_channel = (id % channel_blocks) * {{ channels }}u;
  let entry = slot / params.spans;
  if (entry >= params.entries) {
    return;
  }
  let span_first = (slot % params.spans) * params.span * {{ steps }}u;
  let tiles = min(params.span, (params.steps - span_first + {{ steps - 1 }}u) / {{ steps }}u);
  let own_channels = min({{ channels }}u, params.channels - first_channel);
  var own: array<f32, {{ sums }}>;

  for (var k = 0u; k < tiles; k++) {
    let first = span_first + k * {{ steps }}u;
    let own_steps = min({{ steps }}u, params.steps - first);
    // e.
    for (var i = thread; i < (own_steps + params.width - 1u) * {{ channels }}u; i += {{ threads }}u) {
      let t = first + i / {{ channels }}u;
      let c = i % {{ channels }}u;
      var e = 0.0;
      if (t < params.steps && c < own_channels) {
        e = e_at(row_at(entry, t), first_channel + c, t);
      }
      tile[i] = e;
    }
    workgroupBarrier();

    // dx, word by word of the lines of the tile.
    if (has(HAS_Y)) {
{%- set lines, length = ["own_steps", "own_channels"] if bld else ["own_channels", "own_steps"] %}
      let of_line = {{ length if element == "f32" else length ~ " / 2u + 1u" }};
      for (var n = thread; n < {{ lines }} * of_line; n += {{ threads }}u) {
        let line = n / of_line;
        let j = n % of_line;
        let at = params.y_at + entry * params.y_batch + {{ "(first + line) * params.y_time + first_channel" if bld else "first_channel * params.y_channel + first" }};
{%- macro value(i) -%}
{{ "dx_value(entry, first_channel + " ~ i ~ ", first + line, line, " ~ i ~ ")" if bld else "dx_value(entry, first_channel, first + " ~ i ~ ", " ~ i ~ ", 0u)" }}
{%- endmacro %}
{%- if element == "f32" %}
        y[at + j] = rounded({{ value("j") }});
{%- else %}
        let odd = at & 1u;
        let i = 2u * j;
        let low = i >= odd && i - odd < {{ length }};
        let high = i + 1u - odd < {{ length }};
        var lower = 0.0;
        var upper = 0.0;
        if (low) {
          let own = i - odd;
          lower = {{ value("own") }};
        }
        if (high) {
          let own = i + 1u - odd;
          upper = {{ value("own") }};
        }
        store_halves((at >> 1u) + j, lower, upper, low, high);
{%- endif %}
      }
    }

    // The sums: an invocation keeps to one channel.
    let c = thread % {{ channels }}u;
    if (has(HAS_SUMS) && c < own_channels) {
      for (var i = thread / {{ channels }}u; i < own_steps; i += {{ threads // channels }}u) {
        let t = first + i;
        let row = row_at(entry, t);
        let mask = mask_at(row, t);
        let e = tile[i * {{ channels }}u + c];
        for (var distance = 0u; distance < params.width; distance++) {
          if (((mask >> distance) & 1u) != 0u) {
            own[distance] = fma(e, met(row, first_channel + c, t, distance), own[distance]);
          }
        }
        own[{{ sums - 1 }}] += e;
      }
    }
    workgroupBarrier();
  }

  // Added up over the invocations in a fixed order.
  for (var n = 0u; n < {{ sums }}u; n++) {
    totals[n * {{ threads }}u + thread] = own[n];
  }
  workgroupBarrier();
  if (has(HAS_SUMS)) {
    for (var n = thread; n < (params.width + 1u) * own_channels; n += {{ threads }}u) {
      let number = n / own_channels;
      let c = n % own_channels;
      let line = select(number, {{ sums - 1 }}u, number == params.width);
      var total = 0.0;
      for (var i = c; i < {{ threads }}u; i += {{ channels }}u) {
        total += totals[line * {{ threads }}u + i];
      }
      parts[params.state_at + (slot * (params.width + 1u) + number) * params.channels + first_channel + c] = bitcast<u32>(total);
    }
  }
}
