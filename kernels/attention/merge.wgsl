{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "attention/lines.wgsl" as lines -%}
{%- import "attention/scores.wgsl" as scores -%}
// Attention, the end of rows: what parts of the keys gave is merged in their order, with what came before
// and the sink; {{ element }}.
//
//   M = max(L, L'),  t = exp(L - M) + exp(L' - M),  o = exp(L - M) / t o + exp(L' - M) / t o',  L = M + log t
//
// A workgroup of 64 has a row: invocation t has its features 4 t to 4 t + 3, and those 256 further on. What has seen
// nothing contributes nothing, whatever it holds, and leaves the other as it is.
// Moves the bytes of each feature of each part, and the result; bound by that.

struct Params {
  workgroups: u32,   // rows
  flags: u32,
  heads: u32,
  queries: u32,
  width: u32,
  parts: u32,
  // First elements of bindings, and strides of batch entries, heads and tokens.
  parts_at: u32, parts_batch: u32, parts_head: u32, parts_token: u32, parts_part: u32,
  parts_lse_at: u32, parts_lse_batch: u32, parts_lse_head: u32, parts_lse_token: u32, parts_lse_part: u32,
  partial_at: u32, partial_batch: u32, partial_head: u32, partial_token: u32,
  result_at: u32, result_batch: u32, result_head: u32, result_token: u32,
  lse_at: u32, lse_batch: u32, lse_head: u32, lse_token: u32,
  sink_at: u32,      // word of scratch
}

const RESULT: u32 = 64u;
const PARTIAL: u32 = 128u;
const WIDE: u32 = 256u;
const ADD: u32 = 512u;
const ACCUMULATE: u32 = 1024u;
const SINK: u32 = 2048u;
const NARROW: u32 = 4096u;   // parts are {{ element }}, not f32

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<u32>;
@group(0) @binding(2) var<storage, read_write> parts_lse: array<u32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(5) var<storage, read_write> lse: array<u32>;   // of what came before, and of the result
@group(0) @binding(6) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ scores.numbers() }}
{{ elements.rounding(element) }}
{{ lines.store_four(element, "result") }}
{%- if element != "f32" %}
{{ elements.load(element, "parts") }}
{%- endif %}

// A feature of a part.
fn feature_of_part(i: u32) -> f32 {
{%- if element != "f32" %}
  if (has(NARROW)) {
    return load_parts(i);
  }
{%- endif %}
  return bitcast<f32>(parts[i]);
}

// Four features of a row, and its lse.
struct Row {
  four: vec4<f32>,
  lse: f32,
}

// The merge of a row and one that is no higher.
fn merged_below(high: Row, low: Row) -> Row {
  if (low.lse <= LEAST) {
    return Row(select(vec4<f32>(), high.four, high.lse > LEAST), high.lse);
  }
  let w = vec2<f32>(exp_below(high.lse, high.lse), exp_below(low.lse, high.lse));
  let sum = w.x + w.y;
  return Row(w.x / sum * high.four + w.y / sum * low.four, high.lse + log(sum));
}

// The merge of two rows. The higher one comes first, so that the order does not matter to the bit, even where a
// compiler fuses products and sums.
fn merged(one: Row, other: Row) -> Row {
  if (other.lse > one.lse) {
    return merged_below(other, one);
  }
  return merged_below(one, other);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (row >= params.workgroups) {
    return;
  }
  let head = row / params.queries % params.heads;
  let entry = row / params.queries / params.heads;
  let token = row % params.queries;
{%- for buffer in ["parts", "parts_lse", "partial", "result", "lse"] %}
  let {{ buffer }}_line = params.{{ buffer }}_at + entry * params.{{ buffer }}_batch + head * params.{{ buffer }}_head + token * params.{{ buffer }}_token;
{%- endfor %}
  let before = number_of(lse[lse_line]);
  var row_lse = LEAST;
  for (var feature = 4u * thread; feature < max(params.width, 4u * thread + 1u); feature += 256u) {
    let count = min(max(params.width, feature) - feature, 4u);
    var sum = Row(vec4<f32>(), LEAST);
    for (var part = 0u; part < params.parts; part++) {
      var of_part = Row(vec4<f32>(), number_of(parts_lse[parts_lse_line + part * params.parts_lse_part]));
      for (var f = 0u; f < count; f++) {
        of_part.four[f] = feature_of_part(parts_line + part * params.parts_part + feature + f);
      }
      sum = merged(sum, of_part);
    }
    if (has(ACCUMULATE)) {
      var earlier = Row(vec4<f32>(), before);
      for (var f = 0u; f < count; f++) {
        earlier.four[f] = partial[partial_line + feature + f];
      }
      sum = merged(sum, earlier);
    }
    if (has(SINK)) {
      sum = merged(sum, Row(vec4<f32>(), number_at(params.sink_at + head)));
    }
    if (has(PARTIAL)) {
      for (var f = 0u; f < count; f++) {
        partial[partial_line + feature + f] = sum.four[f];
      }
    }
    if (has(RESULT)) {
      put_four_result(result_line + feature, count, sum.four);
    }
    row_lse = sum.lse;
  }
  storageBarrier();
  if (thread == 0u) {
    lse[lse_line] = select(bitcast<u32>(row_lse), MINUS_INFINITY, row_lse <= LEAST);
  }
}
