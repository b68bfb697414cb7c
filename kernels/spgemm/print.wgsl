{%- import "spgemm/matrix.wgsl" as matrix -%}
// Sparse product, a number for the places of a matrix: the sums of its words, each stirred with where it stands,
// in two ways of 32 bits.
//
//   sums[at] = sum over i of mix(word_i + mix(2 i)),   sums[at + 1] = sum over i of mix(mix(word_i) ^ mix(2 i + 1))
//
// An invocation stirs every word that is a whole grid away from another of its own, and adds to the workgroup's
// sums. Sums wrap and so keep no order. Bytes: 4 for a word. Bound: bytes.

struct Params {
  count: u32,
  words_at: u32,
  at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<atomic<u32>>;

var<workgroup> own_sums: array<atomic<u32>, 2>;

// A bijection of words without pattern.
fn mix(value: u32) -> u32 {
  var x = value;
  x = (x ^ (x >> 16u)) * 0x7feb352du;
  x = (x ^ (x >> 15u)) * 0x846ca68bu;
  return x ^ (x >> 16u);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  if (thread < 2u) {
    atomicStore(&own_sums[thread], 0u);
  }
  workgroupBarrier();
  var sum = vec2<u32>();
  for (var i = workgroup.x * {{ block[0] }}u + thread; i < params.count; i += grid.x * {{ block[0] }}u) {
    let word = words[params.words_at + i];
    sum += vec2<u32>(mix(word + mix(2u * i)), mix(mix(word) ^ mix(2u * i + 1u)));
  }
  atomicAdd(&own_sums[0], sum.x);
  atomicAdd(&own_sums[1], sum.y);
  workgroupBarrier();
  if (thread < 2u) {
    atomicAdd(&sums[params.at + thread], atomicLoad(&own_sums[thread]));
  }
}
