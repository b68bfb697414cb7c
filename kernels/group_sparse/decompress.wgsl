{%- import "common/element.wgsl" as elements -%}
{%- import "group_sparse/numbers.wgsl" as numbers -%}
{%- import "group_sparse/exact.wgsl" as exact -%}
// Group-sparse weights, decoded: rows of the dense matrix, outliers added, rounded to the type that is asked for.
//
//   dense[n, perm[k]] = s_t (q_k - z_t)  or  s_t q_k + m_t,  + O[n, k]
//
// each term rounded once to f32, as the CPU does; 0 where no group is kept. One invocation per word of `dense`, neighbours along
// a row, which looks its group up in the row, and its outlier among the row's. All arithmetic is that of integers: no
// driver rounds otherwise. Writes 4 bytes for one or two weights; some 60 instructions each are about as long.

struct Params {
  count: u32,          // words: rows times those of a row
  words: u32,          // of a row, with those that it has a half of
  first_row: u32,      // among those of the arrays
  columns: u32,        // of the matrix
  bits: u32,
  group: u32,          // columns of a group
  chunk: u32,          // of a chunk
  segment: u32,        // of a segment
  rows_at: u32,        // words of `places` before where rows begin
  columns_at: u32,     // words of `places` before the column groups
  column_bytes: u32,   // 0: all groups are kept
  mode: u32,           // 0 sym, 1 asym, 2 affine
  kind: u32,           // of scales and offsets
  has_inverse: u32,    // 1: of perm
  outliers_at: u32,    // row of `first_row` among those of `outliers`
  outlier_columns_at: u32,
  values_at: u32,
  value_kind: u32,     // 3: no outliers
  dense_kind: u32,
  dense_at: u32,
  dense_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> high: array<u32>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> beside: array<u32>;
@group(0) @binding(6) var<storage, read_write> inverse: array<u32>;
@group(0) @binding(7) var<storage, read_write> outliers: array<u32>;
@group(0) @binding(8) var<storage, read_write> dense: array<atomic<u32>>;
{{ numbers.widened() }}
{{ elements.rounding("bf16", "rounded_bf16") }}
{{ elements.rounding("f16", "rounded_f16") }}
{{ numbers.narrowed() }}
{{ elements.store_masked("dense") }}
{{ exact.arithmetic() }}

const NONE = 0xffffffffu;

fn column_group(slot: u32) -> u32 {
  if (params.column_bytes == 2u) {
    return (places[params.columns_at + (slot >> 1u)] >> ((slot & 1u) * 16u)) & 0xffffu;
  }
  return places[params.columns_at + slot];
}

// Slots of so many chunks.
fn slots(chunks: u32) -> u32 {
  if (params.chunk > params.group) {
    return chunks * (params.chunk / params.group);
  }
  return chunks / (params.group / params.chunk);
}

// The slot of a column group in a row, NONE where it is not kept. Slots without a group stand behind all others.
fn slot_of(row: u32, group: u32) -> u32 {
  let first = slots(places[params.rows_at + row]);
  if (params.column_bytes == 0u) {
    return first + group;
  }
  let end = slots(places[params.rows_at + row + 1u]);
  var low = first;
  var above = end;
  while (low < above) {
    let middle = low + (above - low) / 2u;
    if (column_group(middle) < group) {
      low = middle + 1u;
    } else {
      above = middle;
    }
  }
  if (low < end && column_group(low) == group) {
    return low;
  }
  return NONE;
}

// The code of element j of a slot's group, see src/group_sparse/layout.rs.
fn code_of(slot: u32, j: u32) -> i32 {
  let segments = params.chunk / params.segment;
  let segment = slot * (params.group / params.segment) + j / params.segment;
  let chunk = segment / segments;
  let steps = params.segment / 4u;
  let column = j % params.segment;
  let t = segment % segments * steps + ((column / 4u) ^ (chunk % steps));
  let e = column % 4u;
  // Bits of a code in its word: 3 have 2 here, and one elsewhere.
  let width = params.bits & 14u;
  let at = t * 4u * width + e * width;
  var code = (codes[4u * chunk + at / 32u] >> (at % 32u)) & ((1u << width) - 1u);
  if (params.bits == 3u) {
    let turned = (2u + 2u * e + t % 8u / 2u * 8u + t % 2u) % 32u;
    code |= ((high[2u * chunk + t / 8u] >> turned) & 1u) << 2u;
  }
  return i32(code);
}

// The number of an element of a slot's group, as the bits of an f32.
fn decoded(slot: u32, j: u32) -> u32 {
  let scale = widened(params.kind, scales[word_of(params.kind, slot)], slot);
  let code = code_of(slot, j);
  if (params.mode == 2u) {
    let offset = widened(params.kind, beside[word_of(params.kind, slot)], slot);
    return nearest(sum(times(scale, code), exact_of(offset)));
  }
  var zero = 1i << (params.bits - 1u);
  if (params.mode == 1u) {
    zero = i32((beside[slot >> 2u] >> ((slot & 3u) * 8u)) & 0xffu);
  }
  return nearest(times(scale, code - zero));
}

// The decoded number with the row's outlier of column k, if it has one.
fn with_outlier(bits: u32, row: u32, k: u32) -> u32 {
  let of_row = params.outliers_at + row - params.first_row;
  var low = outliers[of_row];
  let end = outliers[of_row + 1u];
  var above = end;
  while (low < above) {
    let middle = low + (above - low) / 2u;
    if (outliers[params.outlier_columns_at + middle] < k) {
      low = middle + 1u;
    } else {
      above = middle;
    }
  }
  let is_infinite = (bits & 0x7f800000u) == 0x7f800000u;
  if (is_infinite || low >= end || outliers[params.outlier_columns_at + low] != k) {
    return bits;
  }
  let word = outliers[params.values_at + word_of(params.value_kind, low)];
  return nearest(sum(exact_of(bits), exact_of(widened(params.value_kind, word, low))));
}

// The element of a row at an input column, in its type.
fn element(row: u32, column: u32) -> u32 {
  var k = column;
  if (params.has_inverse != 0u) {
    k = inverse[column];
  }
  var bits = 0u;
  let slot = slot_of(row, k / params.group);
  if (slot != NONE) {
    bits = decoded(slot, k % params.group);
  }
  if (params.value_kind != 3u) {
    bits = with_outlier(bits, row, k);
  }
  return narrowed(params.dense_kind, bits);
}

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
  let number = i / params.words;
  let row = params.first_row + number;
  let begin = params.dense_at + number * params.dense_stride;
  if (params.dense_kind == 0u) {
    let column = i % params.words;
    atomicStore(&dense[begin + column], element(row, column));
    return;
  }
  let word = (begin >> 1u) + i % params.words;
  var bits = 0u;
  var mask = 0u;
  for (var half = 0u; half < 2u; half++) {
    let place = 2u * word + half;
    if (place >= begin && place < begin + params.columns) {
      bits |= element(row, place - begin) << (16u * half);
      mask |= 0xffffu << (16u * half);
    }
  }
  store_masked_dense(word, bits, mask);
}
