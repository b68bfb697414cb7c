{%- import "common/element.wgsl" as elements -%}
{%- set a_element = element if kind == "logits" else "f32" -%}
// Cross entropy, a product of the linear layer in front of it; {{ element }}:
//
//   c (rows, width) (+)= a (rows, terms) {{ a_element }} times b (terms, width)
{%- if kind == "logits" %}, logits f32 of x and the weight
{%- else %}, gradients of x and the weight of those of logits
{%- endif %}
//
// A workgroup of 256 has 64 rows and 64 columns of c, 16 terms of each sum at a time, in their order; an invocation
// rows 4 (t / 16) to + 3 and columns 4 (t % 16) to + 3. Factors lie by any strides; neighbours in memory are read by
// neighbours. Workgroup memory: a [term][row] and b [term][column], 4096 bytes each.
// Reads {{ 4 if a_element == "f32" else 2 }} bytes of a per 64 columns and {{ 4 if element == "f32" else 2 }} of b per 64 rows; bound by products and workgroup memory.

struct Params {
  workgroups: u32,  // with work
  tiles: u32,       // of 64 columns
  rows: u32,
  width: u32,
  terms: u32,
  flags: u32,
  a_at: u32, a_row: u32, a_term: u32,
  b_at: u32, b_term: u32, b_column: u32,
  sums_at: u32, sums_row: u32,
  result_at: u32, result_row: u32,
}

const BEFORE: u32 = 1u;  // what `sums` holds is added to
const RESULT: u32 = 2u;  // c goes to `result`, in {{ element }}, else to `sums`

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> a: array<u32>;
@group(0) @binding(2) var<storage, read_write> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
{{ elements.load(a_element, "a") }}
{{ elements.load(element, "b") }}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("result") }}
{%- endif %}

var<workgroup> left: array<f32, 1024>;
var<workgroup> right: array<f32, 1024>;

fn put(i: u32, value: f32) {
{%- if element == "f32" %}
  result[i] = rounded(value);
{%- else %}
  let shift = (i & 1u) * 16u;
  store_masked_result(i >> 1u, rounded(value) << shift, 0xffffu << shift);
{%- endif %}
}

// Line and term of a tile's element i: terms are next to each other, or lines.
fn place(i: u32, by_term: bool) -> vec2<u32> {
  return select(vec2<u32>(i % 64u, i / 64u), vec2<u32>(i / 16u, i % 16u), by_term);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.workgroups) {
    return;
  }
  let first_row = id / params.tiles * 64u;
  let first_column = id % params.tiles * 64u;
  let row = 4u * (thread / 16u);
  let column = 4u * (thread % 16u);
  var c = array<vec4<f32>, 4>();
  for (var first = 0u; first < params.terms; first += 16u) {
    workgroupBarrier();
    for (var i = thread; i < 1024u; i += 256u) {
      let of_a = place(i, params.a_term == 1u);
      var value = 0.0;
      if (first_row + of_a.x < params.rows && first + of_a.y < params.terms) {
        value = load_a(params.a_at + (first_row + of_a.x) * params.a_row + (first + of_a.y) * params.a_term);
      }
      left[64u * of_a.y + of_a.x] = value;
      let of_b = place(i, params.b_term == 1u);
      value = 0.0;
      if (first_column + of_b.x < params.width && first + of_b.y < params.terms) {
        value = load_b(params.b_at + (first_column + of_b.x) * params.b_column + (first + of_b.y) * params.b_term);
      }
      right[64u * of_b.y + of_b.x] = value;
    }
    workgroupBarrier();
    for (var term = 0u; term < 16u; term++) {
      let at = 64u * term + column;
      let y = vec4<f32>(right[at], right[at + 1u], right[at + 2u], right[at + 3u]);
      for (var i = 0u; i < 4u; i++) {
        c[i] += left[64u * term + row + i] * y;
      }
    }
  }
  for (var i = 0u; i < 4u; i++) {
    let at_row = first_row + row + i;
    for (var j = 0u; j < 4u; j++) {
      let at_column = first_column + column + j;
      if (at_row >= params.rows || at_column >= params.width) {
        continue;
      }
      let at = params.sums_at + at_row * params.sums_row + at_column;
      var value = c[i][j];
      if ((params.flags & BEFORE) != 0u) {
        value += sums[at];
      }
      if ((params.flags & RESULT) != 0u) {
        put(params.result_at + at_row * params.result_row + at_column, value);
      } else {
        sums[at] = value;
      }
    }
  }
}
