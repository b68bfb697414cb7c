{#- Rows of logits. Needs `params` with `softcap`. -#}

{#- `capped(z)`: c tanh(z / c), and its slope there; z and 1 without a softcap. Needs exp_accurate. -#}
{%- macro capped() %}
fn capped(z: f32) -> vec2<f32> {
  if (params.softcap <= 0.0) {
    return vec2<f32>(z, 1.0);
  }
  let e = exp_accurate(-2.0 * abs(z) / params.softcap);
  let value = params.softcap * sign(z) * (1.0 - e) / (1.0 + e);
  return vec2<f32>(value, 4.0 * e / ((1.0 + e) * (1.0 + e)));
}
{%- endmacro -%}

{#- What some columns tell of a token, and how it merges. LEAST is the largest logit of none. Needs
    exp_accurate. -#}
{%- macro told() %}
const LEAST: f32 = -3.4028e38;

struct Told {
  m: f32,
  s: f32,
  at_target: f32,
  sum: f32,
}

fn merged(one: Told, other: Told) -> Told {
  let m = max(one.m, other.m);
  let s = one.s * exp_accurate(one.m - m) + other.s * exp_accurate(other.m - m);
  return Told(m, s, one.at_target + other.at_target, one.sum + other.sum);
}
{%- endmacro -%}
