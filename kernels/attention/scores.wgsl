{%- import "common/element.wgsl" as elements -%}
{#- From products to scores and weights. LEAST stands for -∞, which WGSL may not know. Needs exp_accurate,
    `params`, `has`, buffers `bias` and `scratch`, and sight.wgsl. -#}

{#- Numbers that may be -∞. -#}
{%- macro numbers() %}
const LEAST: f32 = -3.4028e38;
const MINUS_INFINITY: u32 = 0xff800000u;

// The number of these bits, with LEAST for -∞.
fn number_of(bits: u32) -> f32 {
  return select(bitcast<f32>(bits), LEAST, bits == MINUS_INFINITY);
}

// A number of the scratch buffer.
fn number_at(i: u32) -> f32 {
  return number_of(scratch[i]);
}

// exp(x - largest), 0 where x is nothing.
fn exp_below(x: f32, largest: f32) -> f32 {
  return select(exp_accurate(min(x - largest, 0.0)), 0.0, x <= LEAST);
}
{%- endmacro -%}

{%- macro declarations(element) %}
{{ numbers() }}

// exp(x) of a score less its lse, which may be a little above 0; 0 where lse is nothing.
fn exp_signed(x: f32, lse: f32) -> f32 {
  return select(exp_accurate(min(x, 80.0)), 0.0, lse <= LEAST);
}

{{ elements.load(element, "bias") }}

// The bias at an element of its binding, f32 or {{ element }}, with LEAST for -∞.
fn bias_at(i: u32) -> f32 {
{%- if element == "f32" %}
  let bits = bias[i];
{%- else %}
  if (has(NARROW_BIAS)) {
    let half = (bias[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu;
    return select(load_bias(i), LEAST, half == {{ "0xff80u" if element == "bf16" else "0xfc00u" }});
  }
  let bits = bias[i];
{%- endif %}
  return select(bitcast<f32>(bits), LEAST, bits == MINUS_INFINITY);
}

// A score, LEAST where the pair does not see, and its slope in the product.
struct Score {
  value: f32,
  through: f32,
}

fn score(sequence: Sequence, product: f32, entry: u32, head: u32, query: u32, key: u32) -> Score {
  let x = params.scale * product;
  var scored = Score(x, 1.0);
  if (has(SOFTCAP)) {
    let e = exp_accurate(-2.0 * abs(x) / params.softcap);
    scored.value = params.softcap * sign(x) * (1.0 - e) / (1.0 + e);
    scored.through = 4.0 * e / ((1.0 + e) * (1.0 + e));
  }
  if (has(SLOPES)) {
    let distance = position(keys_of(sequence), key) - (position(queries_of(sequence), query) + offset_of(sequence));
    let slope = bitcast<f32>(scratch[params.slopes_at + sequence.number * params.slopes_sequence + head]);
    scored.value -= slope * f32(abs(distance));
  }
  if (has(BIAS)) {
    let more = bias_at(params.bias_at + entry * params.bias_batch + head * params.bias_head + query * params.bias_token + key);
    scored.value = select(scored.value + more, LEAST, more <= LEAST);
  }
  return scored;
}

// Whether a query counts: it is among those that are walked, and has seen something.
fn counts(sequence: Sequence, entry: u32, head: u32, query: u32, begin: u32, end: u32) -> bool {
  if (query < begin || query >= end) {
    return false;
  }
  let number = (entry * params.heads + head) * params.queries + sequence.first_query + query;
  return number_at(params.lse_at + number) > LEAST;
}
{%- endmacro -%}
