{%- import "common/activation.wgsl" as activation -%}
{%- import "common/element.wgsl" as elements -%}
{%- import "cross_entropy/rows.wgsl" as rows -%}
// Cross entropy, backward: the gradient of each logit; {{ element }}.
//
//   dz = g (exp(z - lse) (1 + 2 z_loss lse) - smoothing / V - (1 - smoothing) [target]) (1 - (z / c)^2 under a softcap)
//
// {{ lanes }} invocations have a row, or a part of one, in {{ "columns" if element == "f32" else "words of two gradients" }} l, l + {{ lanes }}, ... of lane l. A gradient may replace its
// logit. The logits of an ignored token are not read. Reads and writes each logit once; bound by that.

struct Params {
  workgroups: u32,      // with work
  rows: u32,            // of this launch
  first_row: u32,       // among the tokens
  width: u32,           // columns
  first: u32,           // the first one's place in the vocabulary
  parts: u32,           // of a row
  part_columns: u32,
  logits_at: u32,
  logits_stride: u32,
  gradients_at: u32,
  gradients_stride: u32,
  lse_at: u32,
  dloss_at: u32,
  dloss_step: u32,      // 1 where each token has its own, else 0
  has_factor: u32,      // 1: its loss is multiplied with something
  softcap: f32,         // 0: none
  smoothing: f32,
  share: f32,           // smoothing / V
  z_loss: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> gradients: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(3) var<storage, read_write> columns: array<u32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dloss: array<f32>;
@group(0) @binding(6) var<storage, read_write> factor: array<f32>;
{{ activation.exp_accurate() }}
{{ rows.capped() }}
{{ elements.load(element, "logits") }}
{%- if element != "f32" %}
{{ elements.rounding(element) }}
{{ elements.store_masked("gradients") }}
{%- endif %}

// What the gradients of a row are made of.
struct Row {
  line: u32,        // of logits
  target_at: u32,   // among the part's columns
  kept: bool,
  lse: f32,
  of_power: f32,
  of_all: f32,
  of_target: f32,
}

fn gradient(row: Row, column: u32) -> f32 {
  if (!row.kept) {
    return 0.0;
  }
  let z = capped(load_logits(row.line + column));
  // A rounded lse may lie a little below a logit.
  let power = exp_accurate(min(z.x - row.lse, 0.0));
  let inner = row.of_power * power + row.of_all - select(0.0, row.of_target, column == row.target_at);
  return inner * z.y;
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let lane = thread % {{ lanes }}u;
  let unit = id * {{ block[0] // lanes }}u + thread / {{ lanes }}u;
  let number = unit / params.parts;
  let begin = unit % params.parts * params.part_columns;
  if (id >= params.workgroups || number >= params.rows) {
    return;
  }
  let count = min(params.width - begin, params.part_columns);
  let token = params.first_row + number;
  let target_column = columns[token];
  var g = dloss[params.dloss_at + token * params.dloss_step];
  if (params.has_factor != 0u) {
    g *= factor[0];
  }
  var row = Row();
  row.line = params.logits_at + number * params.logits_stride + begin;
  row.target_at = target_column - params.first - begin;
  row.kept = target_column != 0xffffffffu;
  row.lse = lse[params.lse_at + token];
  row.of_power = g;
  if (params.z_loss > 0.0) {
    row.of_power *= 1.0 + 2.0 * params.z_loss * row.lse;
  }
  row.of_all = -g * params.share;
  row.of_target = g * (1.0 - params.smoothing);
  let to = params.gradients_at + number * params.gradients_stride + begin;
{%- if element == "f32" %}
  for (var column = lane; column < count; column += {{ lanes }}u) {
    gradients[to + column] = bitcast<u32>(gradient(row, column));
  }
{%- else %}
  // Words that the row has a half of.
  let end = to + count;
  for (var word = (to >> 1u) + lane; 2u * word < end; word += {{ lanes }}u) {
    var bits = 0u;
    var mask = 0u;
    for (var half = 0u; half < 2u; half++) {
      let element = 2u * word + half;
      if (element >= to && element < end) {
        bits |= rounded(gradient(row, element - to)) << (16u * half);
        mask |= 0xffffu << (16u * half);
      }
    }
    store_masked_gradients(word, bits, mask);
  }
{%- endif %}
}
