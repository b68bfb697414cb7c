{#- Where rows, steps and units lie, and stores of single elements. Needs params, scratch, `has`. -#}

{#- `length_of`, `time_of`: the steps of a row; the step of its tensors that is the `step`-th to be run. -#}
{%- macro times() %}
fn length_of(row: u32) -> u32 {
  if (has(LENGTHS)) {
    return scratch[params.lengths_at + row];
  }
  return params.steps;
}

fn time_of(step: u32, length: u32) -> u32 {
  return select(step, length - 1u - step, has(REVERSE) && step < length);
}

// A value of scratch.
fn number(i: u32) -> f32 {
  return bitcast<f32>(scratch[i]);
}
{%- endmacro -%}

{#- `put_{buffer}(i, x)`: rounds and stores an element. Needs `rounded`. -#}
{%- macro put(elements, element, buffer) %}
{%- if element != "f32" %}
{{ elements.store_masked(buffer) }}
{%- endif %}

fn put_{{ buffer }}(i: u32, x: f32) {
{%- if element == "f32" %}
  {{ buffer }}[i] = rounded(x);
{%- else %}
  // The other half of the word belongs to another unit, or to nobody of this tensor.
  let shift = (i & 1u) * 16u;
  store_masked_{{ buffer }}(i >> 1u, rounded(x) << shift, 0xffffu << shift);
{%- endif %}
}
{%- endmacro -%}
