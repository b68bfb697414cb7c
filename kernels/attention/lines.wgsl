{%- import "common/element.wgsl" as elements -%}
{#- Four neighbouring features of a token. -#}

{#- `four_{buffer}(i, count)`: elements i to i + 3; 0 for those from `count` on. -#}
{%- macro load_four(element, buffer) %}
{{ elements.load(element, buffer) }}

fn four_{{ buffer }}(i: u32, count: u32) -> vec4<f32> {
  var four = vec4<f32>();
{%- if element == "f32" %}
  if (count >= 4u) {
    return vec4<f32>(load_{{ buffer }}(i), load_{{ buffer }}(i + 1u), load_{{ buffer }}(i + 2u), load_{{ buffer }}(i + 3u));
  }
{%- else %}
  if (count >= 4u && (i & 1u) == 0u) {
    let words = vec2<u32>({{ buffer }}[i >> 1u], {{ buffer }}[(i >> 1u) + 1u]);
{%- if element == "bf16" %}
    let bits = vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u);
    return bitcast<vec4<f32>>(bits);
{%- else %}
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
{%- endif %}
  }
{%- endif %}
  for (var f = 0u; f < min(count, 4u); f++) {
    four[f] = load_{{ buffer }}(i + f);
  }
  return four;
}
{%- endmacro -%}

{#- `put_four(i, count, four)`: stores them to `target`, rounded, or in f32 where `WIDE` says so, and added
    to what is there with `ADD`. Needs `rounded`, `has`. -#}
{%- macro store_four(element, buffer) %}
{%- if element == "f32" %}
fn put_four_{{ buffer }}(i: u32, count: u32, four: vec4<f32>) {
  for (var f = 0u; f < min(count, 4u); f++) {
    let before = select(0.0, bitcast<f32>({{ buffer }}[i + f]), has(ADD));
    {{ buffer }}[i + f] = bitcast<u32>(before + four[f]);
  }
}
{%- else %}
{{ elements.store_masked(buffer) }}

fn put_four_{{ buffer }}(i: u32, count: u32, four: vec4<f32>) {
  for (var f = 0u; f < min(count, 4u); f++) {
    if (has(WIDE)) {
      let before = select(0.0, bitcast<f32>(atomicLoad(&{{ buffer }}[i + f])), has(ADD));
      atomicStore(&{{ buffer }}[i + f], bitcast<u32>(before + four[f]));
      continue;
    }
    let bits = rounded(four[f]);
    if (((i + f) & 1u) == 0u && f + 1u < min(count, 4u)) {
      store_masked_{{ buffer }}((i + f) >> 1u, bits | (rounded(four[f + 1u]) << 16u), 0xffffffffu);
      f++;
    } else {
      let shift = ((i + f) & 1u) * 16u;
      store_masked_{{ buffer }}((i + f) >> 1u, bits << shift, 0xffffu << shift);
    }
  }
}
{%- endif %}
{%- endmacro -%}
