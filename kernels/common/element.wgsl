{#- Elements of f32, bf16 and f16 in buffers of 32-bit words. 16-bit elements lie two in a word,
    the even one low; an element's index counts from the start of the binding. -#}

{#- `load_{buffer}(i)`: element i as f32, exactly (subnormal f16 may be flushed). -#}
{%- macro load(element, buffer) %}
fn load_{{ buffer }}(i: u32) -> f32 {
{%- if element == "f32" %}
  return bitcast<f32>({{ buffer }}[i]);
{%- elif element == "bf16" %}
  return bitcast<f32>(({{ buffer }}[i >> 1u] >> ((i & 1u) * 16u)) << 16u);
{%- else %}
  return unpack2x16float({{ buffer }}[i >> 1u] >> ((i & 1u) * 16u)).x;
{%- endif %}
}
{%- endmacro -%}

{#- `rounded(x)`, or `name`: the bits of x as an element, rounded to nearest even. pack2x16float leaves the
    rounding to the driver, so f16 is rounded by hand. -#}
{%- macro rounding(element, name="rounded") %}
{%- if element == "f32" %}
fn {{ name }}(x: f32) -> u32 {
  return bitcast<u32>(x);
}
{%- elif element == "bf16" %}
fn {{ name }}(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
{%- else %}
fn {{ name }}(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  // Below 2^-14 the spacing is 2^-24: adding 0.5, whose spacing is just that, rounds.
  let small = bitcast<u32>(bitcast<f32>(magnitude) + 0.5) - 0x3f000000u;
  // Else: rebias the exponent by 112 and round off 13 bits; the carry may reach infinity.
  let normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u;
  let value = select(normal, small, magnitude < 0x38800000u);
  return sign | min(value, 0x7c00u);
}
{%- endif %}
{%- endmacro -%}

{#- `store_masked_{buffer}(word, bits, mask)`: writes the halves of a word that the mask covers and
    leaves the other one alone. A half that is not ours may be written by another invocation at the
    same time, or lie outside the tensor, so it is reached by atomics only: each clears and sets its
    own bits. -#}
{%- macro store_masked(buffer) %}
fn store_masked_{{ buffer }}(word: u32, bits: u32, mask: u32) {
  if (mask == 0xffffffffu) {
    atomicStore(&{{ buffer }}[word], bits);
  } else if (mask != 0u) {
    atomicAnd(&{{ buffer }}[word], ~mask);
    atomicOr(&{{ buffer }}[word], bits);
  }
}
{%- endmacro -%}
