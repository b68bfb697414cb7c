{%- import "common/element.wgsl" as elements -%}
{#- Pairs of neighbouring features, of which an invocation has one. -#}

{#- `pair_{buffer}(i, count)`: elements i and i + 1; 0 for those beyond `count` of 2. -#}
{%- macro load_pair(element, buffer) %}
{{ elements.load(element, buffer) }}

fn pair_{{ buffer }}(i: u32, count: u32) -> vec2<f32> {
  var pair = vec2<f32>();
  if (count > 0u) {
    pair.x = load_{{ buffer }}(i);
  }
  if (count > 1u) {
    pair.y = load_{{ buffer }}(i + 1u);
  }
  return pair;
}
{%- endmacro -%}

{#- `put_pair_{buffer}(i, count, pair)`: rounds and stores them. Needs `rounded`, and for 16-bit elements
    `store_masked_{buffer}`. -#}
{%- macro store_pair(element, buffer) %}
fn put_pair_{{ buffer }}(i: u32, count: u32, pair: vec2<f32>) {
{%- if element == "f32" %}
  if (count > 0u) {
    {{ buffer }}[i] = rounded(pair.x);
  }
  if (count > 1u) {
    {{ buffer }}[i + 1u] = rounded(pair.y);
  }
{%- else %}
  let low = rounded(pair.x);
  let high = rounded(pair.y);
  if (count > 1u && (i & 1u) == 0u) {
    store_masked_{{ buffer }}(i >> 1u, low | (high << 16u), 0xffffffffu);
    return;
  }
  if (count > 0u) {
    let shift = (i & 1u) * 16u;
    store_masked_{{ buffer }}(i >> 1u, low << shift, 0xffffu << shift);
  }
  if (count > 1u) {
    // The first of the pair lay high in its word.
    store_masked_{{ buffer }}((i + 1u) >> 1u, high, 0xffffu);
  }
{%- endif %}
}
{%- endmacro -%}
