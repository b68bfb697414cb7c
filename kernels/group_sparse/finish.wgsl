{%- import "common/element.wgsl" as elements -%}
{%- import "group_sparse/numbers.wgsl" as numbers -%}
// Group-sparse products, the last step: what `product` has summed up becomes y.
//
//   y[m, n] = sum[m, n] + head[m, p + 1] + head[m, p + 2] + ... + sum of O[n, k] x[m, k] + bias[n]
//
// in this order, rounded once to y's type; heads of the shares of work in which row n goes on, behind that in which it
// begins, p. One invocation per word of y, neighbours along n. Reads 4 bytes per row, vector and head, writes 2 or 4,
// and is bound by that; a row's outliers, 6 to 8 bytes each, are read by one invocation.

struct Params {
  count: u32,         // words: vectors times those of a row of y
  words: u32,         // of a row of y, with those that it has a half of
  rows: u32,          // of this launch, and of `outliers`
  first_row: u32,     // among those of the matrix
  run: u32,           // vectors of a run
  line: u32,          // sums of a run: rows, then heads
  heads_at: u32,
  joins_at: u32,      // words of `plan` before a word per row: the share that it begins in, or none if it ends there
  staged: u32,        // columns
  columns_at: u32,    // words of `outliers` before their columns
  values_at: u32,     // and before their values
  value_kind: u32,    // 3: no outliers
  bias_kind: u32,     // 3: no bias
  bias_at: u32,
  y_kind: u32,
  y_at: u32,
  y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> plan: array<u32>;
@group(0) @binding(3) var<storage, read_write> staged: array<f32>;
@group(0) @binding(4) var<storage, read_write> outliers: array<u32>;
@group(0) @binding(5) var<storage, read_write> bias: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<atomic<u32>>;
{{ numbers.widened() }}
{{ numbers.load("bias") }}
{{ elements.rounding("bf16", "rounded_bf16") }}
{{ elements.rounding("f16", "rounded_f16") }}
{{ numbers.narrowed() }}
{{ elements.store_masked("y") }}

const NONE = 0xffffffffu;

// What the row's groups add up to.
fn of_groups(run: u32, v: u32, row: u32) -> f32 {
  let line = run * params.line;
  var sum = sums[(line + row) * params.run + v];
  let first = plan[params.joins_at + row];
  if (first != NONE) {
    // A share is four words; the last one is the last worker that has a part of the row.
    let last = plan[4u * first + 3u];
    for (var worker = first + 1u; worker <= last; worker++) {
      sum += sums[(line + params.heads_at + worker) * params.run + v];
    }
  }
  return sum;
}

// What the row's outliers add to it.
fn of_outliers(run: u32, v: u32, row: u32) -> f32 {
  var sum = 0.0;
  let of_row = row - params.first_row;
  let end = outliers[of_row + 1u];
  for (var i = outliers[of_row]; i < end; i++) {
    let word = outliers[params.values_at + word_of(params.value_kind, i)];
    let k = outliers[params.columns_at + i];
    let x = staged[(run * params.staged + k) * params.run + v];
    sum += bitcast<f32>(widened(params.value_kind, word, i)) * x;
  }
  return sum;
}

fn result(vector: u32, row: u32) -> u32 {
  let run = vector / params.run;
  let v = vector % params.run;
  var sum = of_groups(run, v, row);
  if (params.value_kind != 3u) {
    sum += of_outliers(run, v, row);
  }
  if (params.bias_kind != 3u) {
    sum += load_bias(params.bias_kind, params.bias_at + row);
  }
  return narrowed(params.y_kind, bitcast<u32>(sum));
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
  let vector = i / params.words;
  let begin = params.y_at + vector * params.y_stride;
  if (params.y_kind == 0u) {
    let row = i % params.words;
    atomicStore(&y[begin + row], result(vector, params.first_row + row));
    return;
  }
  let word = (begin >> 1u) + i % params.words;
  var bits = 0u;
  var mask = 0u;
  for (var half = 0u; half < 2u; half++) {
    let element = 2u * word + half;
    if (element >= begin && element < begin + params.rows) {
      bits |= result(vector, params.first_row + element - begin) << (16u * half);
      mask |= 0xffffu << (16u * half);
    }
  }
  store_masked_y(word, bits, mask);
}
