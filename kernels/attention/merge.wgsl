{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "attention/lines.wgsl" as lines -%}
{%- import "attention/scores.wgsl" as scores -%}
// Attention, the end of rows: what parts of the keys gave is merged, with what came before and the sink; {{ element }}.
//
//   M = max(L, L'),  t = exp(L - M) + exp(L' - M),  o = exp(L - M) / t o + exp(L' - M) / t o',  L = M + log t
//
// A workgroup of 64 has a row: invocation t has its features 4 t to 4 t + 3, and those 256 further on. What has seen
// nothing contributes nothing, whatever it holds, and leaves the other as it is.
// Moves 4 bytes per feature and part, and the result; bound by that.

struct Params {
  workgroups: u32,   // rows
  flags: u32,
  heads: u32,
  queries: u32,
  width: u32,
  parts: u32,
  parts_at: u32, parts_part: u32,   // elements of parts, without gaps: of a part (B, H, Sq, Dv)
  partial_at: u32, partial_batch: u32, partial_head: u32, partial_token: u32,
  result_at: u32, result_batch: u32, result_head: u32, result_token: u32,
  // Words of scratch.
  lse_at: u32, lse_part: u32,       // of the parts
  before_at: u32,                   // lse of what came before, and of the result
  sink_at: u32,
}

const RESULT: u32 = 64u;
const PARTIAL: u32 = 128u;
const WIDE: u32 = 256u;
const ADD: u32 = 512u;
const ACCUMULATE: u32 = 1024u;
const SINK: u32 = 2048u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ scores.numbers() }}
{{ elements.rounding(element) }}
{{ lines.store_four(element, "result") }}

// Shares of two parts, and their lse.
fn shares(first: f32, second: f32) -> vec3<f32> {
  let largest = max(first, second);
  if (second <= LEAST) {
    return vec3<f32>(select(1.0, 0.0, first <= LEAST), 0.0, first);
  }
  if (first <= LEAST) {
    return vec3<f32>(0.0, 1.0, second);
  }
  let w = vec2<f32>(exp_below(first, largest), exp_below(second, largest));
  let sum = w.x + w.y;
  return vec3<f32>(w / sum, largest + log(sum));
}

// A share of something that may be no number where the share is nothing.
fn share_of(share: f32, four: vec4<f32>) -> vec4<f32> {
  return select(share * four, vec4<f32>(), share == 0.0);
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
  let partial_line = params.partial_at + entry * params.partial_batch + head * params.partial_head + token * params.partial_token;
  let result_line = params.result_at + entry * params.result_batch + head * params.result_head + token * params.result_token;
  let before = number_at(params.before_at + row);
  var lse = LEAST;
  for (var feature = 4u * thread; feature < max(params.width, 4u * thread + 1u); feature += 256u) {
    let count = min(max(params.width, feature) - feature, 4u);
    var sum = vec4<f32>();
    lse = LEAST;
    for (var part = 0u; part < params.parts; part++) {
      let share = shares(lse, number_at(params.lse_at + part * params.lse_part + row));
      var four = vec4<f32>();
      for (var f = 0u; f < count; f++) {
        four[f] = parts[params.parts_at + part * params.parts_part + row * params.width + feature + f];
      }
      sum = share_of(share.x, sum) + share_of(share.y, four);
      lse = share.z;
    }
    if (has(ACCUMULATE)) {
      let share = shares(lse, before);
      var four = vec4<f32>();
      for (var f = 0u; f < count; f++) {
        four[f] = partial[partial_line + feature + f];
      }
      sum = share_of(share.x, sum) + share_of(share.y, four);
      lse = share.z;
    }
    if (has(SINK)) {
      let share = shares(lse, number_at(params.sink_at + head));
      sum = share_of(share.x, sum);
      lse = share.z;
    }
    if (has(PARTIAL)) {
      for (var f = 0u; f < count; f++) {
        partial[partial_line + feature + f] = sum[f];
      }
    }
    if (has(RESULT)) {
      put_four_result(result_line + feature, count, sum);
    }
  }
  storageBarrier();
  if (thread == 0u) {
    scratch[params.before_at + row] = select(bitcast<u32>(lse), MINUS_INFINITY, lse <= LEAST);
  }
}
