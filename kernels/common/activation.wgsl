{#- Exponentials whose accuracy WGSL does not promise, and the functions made of them. -#}

{#- `exp_accurate(x)` for x <= 0: within 2 ulp; 0 below -87. WGSL's own exp may be wrong by
    3 + 2 |x| ulp. x = n ln 2 + r with ln 2 in two parts, the first of few bits so that n times it
    is exact; then a polynomial in r, and 2^n by the exponent's bits. -#}
{%- macro exp_accurate() %}
fn exp_accurate(x: f32) -> f32 {
  let clamped = max(x, -87.0);
  let n = floor(clamped * 1.44269504 + 0.5);
  let r = (clamped - n * 0.693359375) - n * -2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  let value = (p * r * r + r + 1.0) * bitcast<f32>(u32(i32(n) + 127) << 23u);
  return select(value, 0.0, x < -87.0);
}
{%- endmacro -%}

{#- `softplus(x)` = log(1 + exp(x)) = max(x, 0) + log1p(e), e = exp(-|x|) in [0, 1].
    log1p(e) = 2 atanh(s), s = e / (2 + e) <= 1/3: an odd series in s that loses nothing where e is
    small. Needs exp_accurate. -#}
{%- macro softplus() %}
fn softplus(x: f32) -> f32 {
  let e = exp_accurate(-abs(x));
  let s = e / (2.0 + e);
  let q = s * s;
  var p = 1.0 / 15.0;
  p = p * q + 1.0 / 13.0;
  p = p * q + 1.0 / 11.0;
  p = p * q + 1.0 / 9.0;
  p = p * q + 1.0 / 7.0;
  p = p * q + 1.0 / 5.0;
  p = p * q + 1.0 / 3.0;
  p = p * q + 1.0;
  return max(x, 0.0) + 2.0 * s * p;
}
{%- endmacro -%}

{#- `sigmoid(x)` = 1 / (1 + exp(-x)), as e / (1 + e) where x < 0, so that nothing overflows, and
    `silu(x)` = x sigmoid(x). Needs exp_accurate. -#}
{%- macro silu() %}
fn sigmoid(x: f32) -> f32 {
  let e = exp_accurate(-abs(x));
  return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn silu(x: f32) -> f32 {
  return x * sigmoid(x);
}
{%- endmacro -%}

{#- `exp2_minus_one(x)` for a vector type V. Drivers' exp2 may be wrong by 2^-22 next to 1, always to
    the same side; over a thousand steps of decays near 1 that adds up. Below 1/8 a polynomial
    keeps the distance from 1 to 5e-7 of itself. -#}
{%- macro exp2_minus_one(V) %}
fn exp2_minus_one(x: {{ V }}) -> {{ V }} {
  let near = x * (0.693147181 + x * (0.240226507 + x * (0.0555041087 + x * 0.00961812911)));
  return select(exp2(x) - 1.0, near, abs(x) < {{ V }}(0.125));
}
{%- endmacro -%}
