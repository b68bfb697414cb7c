{#- What sum and product mean, by ring and type of values. Values are bits, and a sum lies in a table as a word
    that atomics of u32 can add to: the bits themselves, or, where the least or largest is asked for, mapped so
    that they are in order as unsigned numbers. All is done by bits that NaN and infinity need, since
    compilers may assume that there are none. -#}

{#- The neutral word of the sum; of floats -0, so that a sum of -0 alone keeps its sign. -#}
{%- macro identity(ring, element) %}
{%- if ring == "plus_times" and element == "f32" %}0x80000000u
{%- elif ring == "min_plus" %}0xffffffffu
{%- else %}0u
{%- endif %}
{%- endmacro %}

{#- The one of the type, which the values of a pattern are. -#}
{%- macro one(element) %}{{ "0x3f800000u" if element == "f32" else "1u" }}{% endmacro %}

{#- load_name(i): the bits of a value. Truth values are bytes, any but zero. -#}
{%- macro load(element, name) %}
fn load_{{ name }}(i: u32) -> u32 {
{%- if element == "u8" %}
  let byte = ({{ name }}[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu;
  return select(0u, 1u, byte != 0u);
{%- else %}
  return {{ name }}[i];
{%- endif %}
}
{%- endmacro %}

{#- store_name(i, bits): truth values are bytes, whose neighbours others write. -#}
{%- macro store(element, name) %}
fn store_{{ name }}(i: u32, bits: u32) {
{%- if element == "u8" %}
  let shift = (i & 3u) * 8u;
  atomicAnd(&{{ name }}[i >> 2u], ~(0xffu << shift));
  atomicOr(&{{ name }}[i >> 2u], bits << shift);
{%- else %}
  {{ name }}[i] = bits;
{%- endif %}
}
{%- endmacro %}

{#- multiply(a, b): the bits of a (x) b, rounded by itself. -#}
{%- macro multiply(ring, element) %}
fn multiply(a: u32, b: u32) -> u32 {
{%- if ring == "plus_pair" %}
  return 1u;
{%- elif ring == "or_and" %}
  return a & b;
{%- elif ring == "min_plus" and element == "i32" %}
  // Where two of one sign give the other, the sum is beyond the numbers of theirs.
  let sum = a + b;
  let overflows = ((a ^ sum) & (b ^ sum)) >> 31u;
  return select(sum, 0x7fffffffu + (a >> 31u), overflows != 0u);
{%- elif element == "f32" %}
  return bitcast<u32>(bitcast<f32>(a) {{ "+" if ring == "min_plus" else "*" }} bitcast<f32>(b));
{%- else %}
  return a * b;
{%- endif %}
}
{%- endmacro %}

{#- word_of(bits), and back. Every NaN becomes the word that wins. -#}
{%- macro words(ring, element) %}
{%- set mapped = ring in ["min_plus", "max_times"] %}
const IDENTITY: u32 = {{ identity(ring, element) }};

fn word_of(bits: u32) -> u32 {
{%- if mapped and element == "f32" %}
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {{ "0u" if ring == "min_plus" else "0xffffffffu" }};
  }
  return bits ^ select(0x80000000u, 0xffffffffu, bits >> 31u != 0u);
{%- elif mapped and element == "i32" %}
  return bits ^ 0x80000000u;
{%- else %}
  return bits;
{%- endif %}
}

fn bits_of(word: u32) -> u32 {
{%- if mapped and element == "f32" %}
  return word ^ select(0xffffffffu, 0x80000000u, word >> 31u != 0u);
{%- elif mapped and element == "i32" %}
  return word ^ 0x80000000u;
{%- else %}
  return word;
{%- endif %}
}
{%- endmacro %}

{#- add(at, word): adds to a word. A sum of floats is exchanged until it has not changed meanwhile; in order,
    nobody else adds at that time. -#}
{%- macro add(ring, element, name) %}
fn add(at: u32, word: u32) {
{%- if ring == "plus_times" and element == "f32" %}
  var met = atomicLoad(&{{ name }}[at]);
  loop {
    let sum = bitcast<u32>(bitcast<f32>(met) + bitcast<f32>(word));
    let exchanged = atomicCompareExchangeWeak(&{{ name }}[at], met, sum);
    if (exchanged.exchanged) {
      break;
    }
    met = exchanged.old_value;
  }
{%- elif ring == "min_plus" %}
  atomicMin(&{{ name }}[at], word);
{%- elif ring == "max_times" %}
  atomicMax(&{{ name }}[at], word);
{%- elif ring == "or_and" %}
  atomicOr(&{{ name }}[at], word);
{%- else %}
  atomicAdd(&{{ name }}[at], word);
{%- endif %}
}
{%- endmacro %}
