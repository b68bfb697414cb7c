{%- import "common/element.wgsl" as elements -%}
// Lines of a tensor, of any strides, copied or added to those of another, or compared with them:
//
//   to[r, p] = from[r, p],  round(from[r, p]),  to[r, p] + from[r, p]  or  max(to[r, p], from[r, p])
//
{%- if kind == "words" %}
// One invocation per word, neighbours along the last axis. Moves each byte once (those of `to` twice where they are read), and is
// bound by that.
{%- elif kind == "parts" %}
// Elements of 8 or 16 bits that cannot be taken as words: one invocation per element, which reaches its part of a word
// by atomics.
{%- else %}
// f32 to {{ kind }}: one invocation per element, or per pair of neighbours where pairs lie in one word. Moves 6 bytes of each
// and is bound by that.
{%- endif %}

struct Params {
  count: u32,        // invocations
  length1: u32, length2: u32, length3: u32,
  from_at: u32, from0: u32, from1: u32, from2: u32, from3: u32,
  to_at: u32, to0: u32, to1: u32, to2: u32, to3: u32,
  mode: u32,         // {{ "what is done, as f32" if kind == "words" else "bits of an element" if kind == "parts" else "1: neighbours in pairs" }}
}
{%- if kind == "words" %}

const ADD: u32 = 1u;   // 0: copies
const MAX: u32 = 2u;
{%- endif %}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> lines: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<{{ "u32" if kind == "words" else "atomic<u32>" }}>;
{%- if kind != "words" %}
{{ elements.store_masked("result") }}
{%- endif %}
{%- if kind not in ["words", "parts"] %}
{{ elements.rounding(kind) }}
{%- endif %}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let i = id * {{ block[0] }}u + thread;
  if (i >= params.count) {
    return;
  }
  let at3 = i % params.length3;
  let at2 = i / params.length3 % params.length2;
  let at1 = i / params.length3 / params.length2 % params.length1;
  let at0 = i / params.length3 / params.length2 / params.length1;
  let read = params.from_at + at0 * params.from0 + at1 * params.from1 + at2 * params.from2 + at3 * params.from3;
  let write = params.to_at + at0 * params.to0 + at1 * params.to1 + at2 * params.to2 + at3 * params.to3;
{%- if kind == "words" %}
  var word = lines[read];
  if (params.mode == ADD) {
    word = bitcast<u32>(bitcast<f32>(result[write]) + bitcast<f32>(word));
  } else if (params.mode == MAX) {
    word = bitcast<u32>(max(bitcast<f32>(result[write]), bitcast<f32>(word)));
  }
  result[write] = word;
{%- elif kind == "parts" %}
  let of_word = 32u / params.mode;
  let mask = (1u << params.mode) - 1u;
  let part = (lines[read / of_word] >> (read % of_word * params.mode)) & mask;
  let shift = write % of_word * params.mode;
  store_masked_result(write / of_word, part << shift, mask << shift);
{%- else %}
  let first = rounded(bitcast<f32>(lines[read]));
  if (params.mode != 0u) {
    atomicStore(&result[write >> 1u], first | rounded(bitcast<f32>(lines[read + 1u])) << 16u);
    return;
  }
  let shift = (write & 1u) * 16u;
  store_masked_result(write >> 1u, first << shift, 0xffffu << shift);
{%- endif %}
}
