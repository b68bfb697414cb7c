{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "attention/lines.wgsl" as lines -%}
{%- import "attention/scores.wgsl" as scores -%}
{%- import "attention/sight.wgsl" as sight -%}
{%- import "attention/softmax.wgsl" as softmax -%}
{%- set of_queries = stage == "out" or stage == "dq" or stage == "dbias" -%}
{%- set twice = stage == "dq" or stage == "dk" or stage == "dbias" -%}
{%- set sums = stage != "dbias" -%}
{%- set native = "SHADER_FLOAT16" in capabilities -%}
{%- set subgroups = "SUBGROUP" in capabilities -%}
{%- set rows = tile_rows -%}
{%- set per_thread = rows // 16 -%}
// Attention, {{ stage }}; {{ element }}, lines of up to {{ width }} features.
//
{%- if stage == "out" %}
//   out_i = sum_j exp(s_ij - lse_i) v_j,  lse_i = log sum_j exp(s_ij)
{%- elif stage == "dq" %}
//   dq_i = scale sum_j dx_ij k_j,  dx_ij = P_ij (dout_i . v_j - delta_i) (1 - tanh^2)
{%- elif stage == "dk" %}
//   dk_j = scale sum_i dx_ij q_i,  dx_ij = P_ij (dout_i . v_j - delta_i) (1 - tanh^2)
{%- elif stage == "dv" %}
//   dv_j = sum_i P_ij dout_i,  P_ij = exp(s_ij - lse_i)
{%- else %}
//   dbias_ij = sum P_ij (dout_i . v_j - delta_i) over the batch entries and heads that share the bias
{%- endif %}
//
// A workgroup of 128 has {{ rows }} rows of its own, {{ "queries of one or more heads" if of_queries else "keys" }}, and walks {% if sums %}the {{ "keys" if of_queries else "queries" }} that {{ "they see" if of_queries else "see them" }}{% else %}batch entries and heads, with{% endif %}
// 32 at a time{% if not sums %} of the keys{% endif %}. Scores: invocation t has rows t / 8{% if per_thread > 1 %} and t / 8 + 16{% endif %} and columns t % 8 + 8 i, from 32 features of both
// sides at a time.{% if sums %} Sums: rows t / 16 + 8 i, and columns 4 (t % 16) of each 64 features of the lines.{% endif %}
// Workgroup memory: features of both sides, or 32 lines of 64 features, {{ 4608 if native else 9216 }} bytes; weights, {{ rows * 33 * 4 }} bytes.
// Reads {{ 4 if element == "f32" else 2 }} bytes per feature of the other side and {{ rows }} rows; bound by workgroup memory.
{%- if native %}
// It holds features in f16, in half the bytes. They are widened as they are read, and products and sums are f32, so
// that results have the bits of the variant that does without f16.
{%- endif %}
{%- if subgroups %}
// The {{ 128 // rows }} invocations of a row lie in one subgroup, and find the row's largest score by shuffles. A tile takes
// 2 D / 32 + 2 Dv / 64 barriers, one less than without subgroups; the 512 bytes to agree through are saved, too.
{%- elif stage == "out" %}
// A tile takes 2 D / 32 + 2 Dv / 64 + 1 barriers, rounded up; one of them is for the rows' largest scores.
{%- endif %}
{%- if native %}

enable f16;
{%- endif %}

struct Params {
  workgroups: u32,       // with work
  flags: u32,
  sequences: u32,
  heads: u32,
  group: u32,            // heads that share keys
  queries: u32,          // of a batch entry
  keys: u32,
  width: u32,
  value_width: u32,
  tiles: u32,            // of own tokens, of all sequences: the most there can be where they are packed
  tile_tokens: u32,      // tokens of a tile,
  tile_heads: u32,       // of so many heads
  head_tiles: u32,
  parts: u32,            // of the walk, side by side
  part_tokens: u32,      // tokens of a part, a multiple of 32
  scale: f32,
  softcap: f32,
  offset: i32,           // what is added to positions of queries
  low: i32,              // the least and the largest distance to a key that is seen
  high: i32,
  // Tokens of a whole sequence that queries and keys are: up to two runs at equal distances.
  q_start: u32, q_stride: u32, q_length: u32, q_late_start: u32, q_late_stride: u32, q_late_length: u32,
  k_start: u32, k_stride: u32, k_length: u32, k_late_start: u32, k_late_stride: u32, k_late_length: u32,
  // Element indices within the bindings, and strides of batch entries, heads and tokens.
  q_at: u32, q_batch: u32, q_head: u32, q_token: u32,
  k_at: u32, k_batch: u32, k_head: u32, k_token: u32,
  v_at: u32, v_batch: u32, v_head: u32, v_token: u32,
  dout_at: u32, dout_batch: u32, dout_head: u32, dout_token: u32,
  bias_at: u32, bias_batch: u32, bias_head: u32, bias_token: u32,
  result_at: u32, result_batch: u32, result_head: u32, result_token: u32,
  partial_at: u32, partial_batch: u32, partial_head: u32, partial_token: u32, partial_part: u32,
  // Words of scratch.
  lse_at: u32,           // (parts, B, H, Sq) forward, (B, H, Sq) backward
  lse_part: u32,
  delta_at: u32,
  slopes_at: u32,
  slopes_sequence: u32,  // between sequences; 0 where they share slopes
  query_bounds_at: u32,
  key_bounds_at: u32,
  shared_batches: u32,   // batch entries and heads that share a plane of the bias
  shared_heads: u32,
}

const PACKED: u32 = 1u;
const BOTTOM_RIGHT: u32 = 2u;
const SOFTCAP: u32 = 4u;
const SLOPES: u32 = 8u;
const BIAS: u32 = 16u;
const NARROW_BIAS: u32 = 32u;
const RESULT: u32 = 64u;     // the result is written, rounded unless it is WIDE
const PARTIAL: u32 = 128u;   // and in f32
const WIDE: u32 = 256u;
const ADD: u32 = 512u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> q: array<u32>;
@group(0) @binding(2) var<storage, read_write> k: array<u32>;
@group(0) @binding(3) var<storage, read_write> v: array<u32>;
@group(0) @binding(4) var<storage, read_write> dout: array<u32>;
@group(0) @binding(5) var<storage, read_write> bias: array<u32>;
@group(0) @binding(6) var<storage, read_write> result: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(7) var<storage, read_write> partial: array<u32>;
@group(0) @binding(8) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ sight.declarations() }}
{{ scores.declarations(element) }}
{{ lines.load_four(element, "q") }}
{{ lines.load_four(element, "k") }}
{{ lines.load_four(element, "v") }}
{{ lines.load_four(element, "dout") }}
{%- if sums %}
{{ elements.rounding(element) }}
{{ lines.store_four(element, "result") }}
{%- endif %}

const ROWS: u32 = {{ rows }}u;
const COLUMNS: u32 = 32u;

// Four features as workgroup memory holds them.
alias Held = vec4<{{ "f16" if native else "f32" }}>;
// Features of both sides, or lines that are added up.
var<workgroup> features: array<Held, 576>;
// Scores, then weights, [row][column].
var<workgroup> tile: array<f32, {{ rows * 33 }}>;
// What each row sees, or who sees it.
var<workgroup> seen: array<vec2<u32>, {{ rows }}>;
var<workgroup> place: vec4<u32>;
var<workgroup> reach: vec2<u32>;
{%- if stage == "out" %}
{{ softmax.declarations(rows, subgroups) }}
{%- endif %}

// A row's token, and its head: none where it is beyond them.
struct Row {
  token: u32,
  head: u32,
  valid: bool,
}

fn row_of(sequence: Sequence, first_token: u32, first_head: u32, last_head: u32, row: u32) -> Row {
  let token = first_token + row % params.tile_tokens;
  let head = first_head + row / params.tile_tokens;
  let tokens = {{ "sequence.queries" if of_queries else "sequence.keys" }};
  let valid = row < params.tile_tokens * params.tile_heads && head < last_head && token < tokens;
  return Row(token, head, valid);
}

// Which sequence a tile of own tokens belongs to, and its first token.
fn find_tile(flat: u32) -> vec4<u32> {
  if (!has(PACKED)) {
    let tokens = {{ "params.queries" if of_queries else "params.keys" }};
    let tiles = max((tokens + params.tile_tokens - 1u) / params.tile_tokens, 1u);
    return vec4<u32>(flat / tiles, flat % tiles * params.tile_tokens, 1u, 0u);
  }
  var left = flat;
  for (var number = 0u; number < params.sequences; number++) {
    let sequence = sequence_of(number);
    let tokens = {{ "sequence.queries" if of_queries else "sequence.keys" }};
    let tiles = (tokens + params.tile_tokens - 1u) / params.tile_tokens;
    if (left < tiles) {
      return vec4<u32>(number, left * params.tile_tokens, 1u, 0u);
    }
    left -= tiles;
  }
  return vec4<u32>();
}

{#- Products of the rows and columns of a tile, `{name}_{row}_{column}` of this invocation, from 32 features
    of both sides at a time. `left` and `right` give four features of a row or column, from a feature on. -#}
{%- macro product(name, features, left, right) %}
{%- for r in range(per_thread) %}
{%- for c in range(4) %}
      var {{ name }}_{{ r }}_{{ c }} = 0.0;
{%- endfor %}
{%- endfor %}
      for (var first_feature = 0u; first_feature < {{ features }}; first_feature += 32u) {
        // Here all are through with the last features, weights and factors.
        workgroupBarrier();
        for (var i = thread; i < {{ rows * 8 }}u; i += 128u) {
          let row = i / 8u;
          let feature = first_feature + i % 8u * 4u;
          var four = vec4<f32>();
          if (feature < {{ features }}) {
            {{ left }}
          }
          features[row * 9u + i % 8u] = Held(four);
        }
        for (var i = thread; i < 256u; i += 128u) {
          let column = i / 8u;
          let feature = first_feature + i % 8u * 4u;
          var four = vec4<f32>();
          if (feature < {{ features }}) {
            {{ right }}
          }
          features[(ROWS + column) * 9u + i % 8u] = Held(four);
        }
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
{%- for r in range(per_thread) %}
          let left_{{ r }} = vec4<f32>(features[(slow + {{ 16 * r }}u) * 9u + i]);
{%- endfor %}
{%- for c in range(4) %}
          let right_{{ c }} = vec4<f32>(features[(ROWS + fast + {{ 8 * c }}u) * 9u + i]);
{%- endfor %}
{%- for r in range(per_thread) %}
{%- for c in range(4) %}
          {{ name }}_{{ r }}_{{ c }} += dot(left_{{ r }}, right_{{ c }});
{%- endfor %}
{%- endfor %}
        }
      }
{%- endmacro -%}

{#- Four features of an own row, or of a column's token, of a tensor. -#}
{%- macro own(buffer, width) %}let own = row_of(sequence, first_token, first_head, last_head, row);
            if (own.valid) {
              let line = params.{{ buffer }}_at + entry * params.{{ buffer }}_batch + own.head * params.{{ buffer }}_head
                + ({{ "sequence.first_query" if of_queries else "sequence.first_key" }} + own.token) * params.{{ buffer }}_token;
              four = four_{{ buffer }}(line + feature, {{ width }} - feature);
            }
{%- endmacro -%}
{%- macro other(buffer, width, head) %}let token = first + column;
            if (token >= begin && token < end) {
              let line = params.{{ buffer }}_at + entry * params.{{ buffer }}_batch + {{ head }} * params.{{ buffer }}_head
                + ({{ "sequence.first_key" if of_queries else "sequence.first_query" }} + token) * params.{{ buffer }}_token;
              four = four_{{ buffer }}(line + feature, {{ width }} - feature);
            }
{%- endmacro -%}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
{%- if subgroups %}
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) lane: u32,
{%- endif %}
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.workgroups) {
    return;
  }
  let part = id % params.parts;
  let flat = id / params.parts % params.tiles;
  let head_tile = id / params.parts / params.tiles % params.head_tiles;
  let plane = id / params.parts / params.tiles / params.head_tiles;
  let slow = thread / 8u;
  let fast = thread % 8u;
  if (thread == 0u) {
    place = find_tile(flat);
  }
  let found = workgroupUniformLoad(&place);
  if (found.z == 0u) {
    return;
  }
  let first_token = found.y;
{%- if stage == "dbias" %}
  // A plane of the bias and a tile of its keys; sequences are batch entries.
  let bias_heads = params.heads / params.shared_heads;
  let plane_entry = plane / bias_heads * params.shared_batches;
  let plane_head = plane % bias_heads * params.shared_heads;
  let sequence = sequence_of(0u);
{%- else %}
  let kv_head = plane;
  let sequence = sequence_of(found.x);
  let entry = sequence.entry;
{%- if of_queries %}
  let first_head = kv_head * params.group + head_tile * params.tile_heads;
  let last_head = min(first_head + params.tile_heads, (kv_head + 1u) * params.group);
{%- else %}
  let first_head = kv_head;
  let last_head = kv_head + 1u;
{%- endif %}
{%- endif %}

  if (thread < ROWS) {
{%- if stage == "dbias" %}
    let own = Row(first_token + thread, 0u, first_token + thread < params.queries);
{%- else %}
    let own = row_of(sequence, first_token, first_head, last_head, thread);
{%- endif %}
    var range = vec2<u32>(0u, 0u);
    if (own.valid) {
      range = {{ "keys_seen" if of_queries else "queries_seeing" }}(sequence, own.token);
    }
    seen[thread] = range;
  }
  workgroupBarrier();
  if (thread == 0u) {
    var range = vec2<u32>(0xffffffffu, 0u);
    for (var row = 0u; row < ROWS; row++) {
      if (seen[row].x < seen[row].y) {
        range = vec2<u32>(min(range.x, seen[row].x), max(range.y, seen[row].y));
      }
    }
    let part_end = (part + 1u) * params.part_tokens;
    reach = vec2<u32>(max(range.x, part * params.part_tokens), min(range.y, part_end));
  }
  let bounds = workgroupUniformLoad(&reach);
  let begin = bounds.x;
  let end = bounds.y;
{%- if stage == "out" %}
{{- softmax.start(rows, subgroups) }}
{%- endif %}
{%- if sums %}
  let sum_row = thread / 16u;
  let sum_column = thread % 16u;
{%- for chunk in range(width // 64) %}
{%- for r in range(rows // 8) %}
  var sum_{{ chunk }}_{{ r }} = vec4<f32>();
{%- endfor %}
{%- endfor %}
{%- else %}
{%- for r in range(per_thread) %}
{%- for c in range(4) %}
  var sum_{{ r }}_{{ c }} = 0.0;
{%- endfor %}
{%- endfor %}
{%- endif %}

{% if stage == "dbias" %}
  for (var pair = 0u; pair < params.shared_batches * params.shared_heads; pair++) {
    let entry = plane_entry + pair / params.shared_heads;
    let first_head = plane_head + pair % params.shared_heads;
    let last_head = first_head + 1u;
    let kv_head = first_head / params.group;
    {
      let first = part * params.part_tokens;
{%- elif of_queries %}
  {
    for (var first = begin / COLUMNS * COLUMNS; first < end; first += COLUMNS) {
{%- else %}
  for (var head = kv_head * params.group; head < (kv_head + 1u) * params.group; head++) {
    for (var first = begin / COLUMNS * COLUMNS; first < end; first += COLUMNS) {
{%- endif %}
{%- if of_queries %}
{{- product("x", "params.width", own("q", "params.width"), other("k", "params.width", "kv_head")) }}
{%- if twice %}
{{- product("y", "params.value_width", own("dout", "params.value_width"), other("v", "params.value_width", "kv_head")) }}
{%- endif %}
{%- else %}
{{- product("x", "params.width", own("k", "params.width"), other("q", "params.width", "head")) }}
{%- if twice %}
{{- product("y", "params.value_width", own("v", "params.value_width"), other("dout", "params.value_width", "head")) }}
{%- endif %}
{%- endif %}
{%- for r in range(per_thread) %}
      {
        let row = slow + {{ 16 * r }}u;
        let range = seen[row];
{%- if of_queries %}
        let own = row_of(sequence, first_token, first_head, last_head, row);
        let query = own.token;
        let of_head = own.head;
{%- if stage != "out" %}
        let number = (entry * params.heads + of_head) * params.queries + sequence.first_query + query;
        var lse = LEAST;
        var delta = 0.0;
        if (own.valid) {
          lse = number_at(params.lse_at + number);
{%- if twice %}
          delta = bitcast<f32>(scratch[params.delta_at + number]);
{%- endif %}
        }
{%- endif %}
{%- else %}
        let key = first_token + row;
        let of_head = head;
{%- endif %}
{%- for c in range(4) %}
        {
          let column = first + fast + {{ 8 * c }}u;
          var scored = Score(LEAST, 1.0);
{%- if of_queries %}
          let key = column;
{%- else %}
          let query = column;
{%- endif %}
          if (column >= range.x && column < range.y && column >= begin && column < end) {
            scored = score(sequence, x_{{ r }}_{{ c }}, entry, of_head, query, key);
          }
{%- if stage == "out" %}
          tile[row * 33u + fast + {{ 8 * c }}u] = scored.value;
{%- else %}
          var weight = 0.0;
          if (scored.value > LEAST) {
{%- if not of_queries %}
            let number = (entry * params.heads + of_head) * params.queries + sequence.first_query + query;
            let lse = number_at(params.lse_at + number);
{%- if twice %}
            let delta = bitcast<f32>(scratch[params.delta_at + number]);
{%- endif %}
{%- endif %}
            weight = exp_signed(scored.value - lse, lse);
{%- if twice %}
            weight = select(0.0, weight * (y_{{ r }}_{{ c }} - delta){% if sums %} * scored.through{% endif %}, weight != 0.0);
{%- endif %}
          }
{%- if sums %}
          tile[row * 33u + fast + {{ 8 * c }}u] = weight;
{%- else %}
          sum_{{ r }}_{{ c }} += weight;
{%- endif %}
{%- endif %}
        }
{%- endfor %}
      }
{%- endfor %}
{%- if stage == "out" %}
{{- softmax.step(rows) }}
{%- endif %}
{%- if sums %}
{%- set line = {"out": "v", "dq": "k", "dk": "q", "dv": "dout"}[stage] %}
{%- set features_of_line = "params.width" if stage == "dq" or stage == "dk" else "params.value_width" %}
{%- for chunk in range(width // 64) %}
      if ({{ 64 * chunk }}u < {{ features_of_line }}) {
{%- if stage != "out" or not loop.first %}
        workgroupBarrier();
{%- endif %}
        for (var i = thread; i < 512u; i += 128u) {
          let column = i / 16u;
          let feature = {{ 64 * chunk }}u + i % 16u * 4u;
          var four = vec4<f32>();
          if (feature < {{ features_of_line }}{% if not of_queries %} && counts(sequence, entry, head, first + column, begin, end){% endif %}) {
            {{ other(line, features_of_line, "kv_head" if of_queries else "head") }}
          }
          features[column * 17u + i % 16u] = Held(four);
        }
        workgroupBarrier();
{%- if stage == "out" %}
{%- for r in range(rows // 8) %}
        sum_{{ chunk }}_{{ r }} *= kept[sum_row + {{ 8 * r }}u];
{%- endfor %}
{%- endif %}
        for (var column = 0u; column < COLUMNS; column++) {
          let four = vec4<f32>(features[column * 17u + sum_column]);
{%- for r in range(rows // 8) %}
          sum_{{ chunk }}_{{ r }} += tile[(sum_row + {{ 8 * r }}u) * 33u + column] * four;
{%- endfor %}
        }
      }
{%- endfor %}
{%- endif %}
    }
  }

{%- if stage == "out" %}
{{- softmax.finish(rows) }}
{%- endif %}
{%- if sums %}
{%- for r in range(rows // 8) %}
  {
    let row = sum_row + {{ 8 * r }}u;
    let own = row_of(sequence, first_token, first_head, last_head, row);
    if (own.valid) {
      let token = {{ "sequence.first_query" if of_queries else "sequence.first_key" }} + own.token;
{%- if stage == "out" %}
      let sum = total[row];
      let empty = most[row] <= LEAST;
      let factor = select(1.0 / sum, 0.0, empty);
      if (sum_column == 0u) {
        let number = (entry * params.heads + own.head) * params.queries + token;
        let lse = select(bitcast<u32>(most[row] + log(max(sum, 1e-38))), MINUS_INFINITY, empty);
        scratch[params.lse_at + part * params.lse_part + number] = lse;
      }
{%- else %}
      let factor = {{ "1.0" if stage == "dv" else "params.scale" }};
{%- endif %}
      let line = params.result_at + entry * params.result_batch + own.head * params.result_head + token * params.result_token;
{%- if stage == "out" %}
      let partial_line = params.partial_at + part * params.partial_part + entry * params.partial_batch
        + own.head * params.partial_head + token * params.partial_token;
{%- endif %}
{%- for chunk in range(width // 64) %}
      {
        let feature = {{ 64 * chunk }}u + 4u * sum_column;
        if (feature < {{ features_of_line }}) {
          let count = {{ features_of_line }} - feature;
{%- if stage == "out" %}
          let four = select(factor * sum_{{ chunk }}_{{ r }}, vec4<f32>(), empty);
          if (has(PARTIAL)) {
            for (var f = 0u; f < min(count, 4u); f++) {
              partial[partial_line + feature + f] = bitcast<u32>(four[f]);
            }
          }
{%- else %}
          let four = factor * sum_{{ chunk }}_{{ r }};
{%- endif %}
          if (has(RESULT)) {
            put_four_result(line + feature, count, four);
          }
        }
      }
{%- endfor %}
    }
  }
{%- endfor %}
{%- else %}
{%- for r in range(per_thread) %}
  if (first_token + slow + {{ 16 * r }}u < params.queries) {
    let row = params.partial_at + plane * params.partial_batch + (first_token + slow + {{ 16 * r }}u) * params.partial_token;
{%- for c in range(4) %}
    if (part * params.part_tokens + fast + {{ 8 * c }}u < params.keys) {
      partial[row + part * params.part_tokens + fast + {{ 8 * c }}u] = bitcast<u32>(sum_{{ r }}_{{ c }});
    }
{%- endfor %}
  }
{%- endfor %}
{%- endif %}
}
