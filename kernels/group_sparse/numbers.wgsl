{#- Numbers of a type that is settled at run time: 0 f32, 1 bf16, 2 f16, as src/group_sparse/wgpu tells kernels. 16-bit
    ones lie two in a word, the even one low. -#}

{#- `widened(kind, word, i)`: number i, which lies in this word, as the bits of an f32, exactly. unpack2x16float may
    make 0 of small f16, which scales may be. -#}
{%- macro widened() %}
fn widened(kind: u32, word: u32, i: u32) -> u32 {
  let bits = word >> ((i & 1u) * 16u);
  if (kind == 0u) {
    return word;
  } else if (kind == 1u) {
    return bits << 16u;
  }
  let sign = (bits & 0x8000u) << 16u;
  let magnitude = bits & 0x7fffu;
  // Below 2^-14 a number is a multiple of 2^-24.
  let small = bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8);
  let normal = (magnitude << 13u) + select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u);
  return sign | select(normal, small, magnitude < 0x400u);
}

// The word that number i lies in.
fn word_of(kind: u32, i: u32) -> u32 {
  return select(i >> 1u, i, kind == 0u);
}
{%- endmacro -%}

{#- `load_{buffer}(kind, i)`: number i of a buffer as f32. Needs widened. -#}
{%- macro load(buffer) %}
fn load_{{ buffer }}(kind: u32, i: u32) -> f32 {
  return bitcast<f32>(widened(kind, {{ buffer }}[word_of(kind, i)], i));
}
{%- endmacro -%}

{#- `narrowed(kind, bits)`: an f32 rounded to the nearest number of a type, as its bits; what is no number stays
    none. Needs rounded_bf16 and rounded_f16. -#}
{%- macro narrowed() %}
fn narrowed(kind: u32, bits: u32) -> u32 {
  let is_none = (bits & 0x7fffffffu) > 0x7f800000u;
  if (kind == 0u) {
    return bits;
  } else if (kind == 1u) {
    return select(rounded_bf16(bitcast<f32>(bits)), 0x7fc0u, is_none);
  }
  return select(rounded_f16(bitcast<f32>(bits)), 0x7e00u, is_none);
}
{%- endmacro -%}
