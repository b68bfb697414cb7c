{#- The cells, element by element. The order of gates is that of the operation's module documentation; what a
    cell lacks is 0 and not read. Needs exp_accurate, and of sLSTM softplus. -#}

{#- The type of what the recurrent gates of a unit have: a number, or a vector whose fourth is 0 where there
    are three. -#}
{%- macro gates_type(cell) %}{{ "f32" if cell == "elman" or cell == "relu" else "vec4<f32>" }}{%- endmacro -%}

{#- The sigmoid, 0 far below; the hyperbolic tangent, accurate next to 0 as well, where WGSL's own may have no
    digit right; a NaN stays one in both. -#}
{%- macro functions() %}
// By its bits: a driver may take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn sigmoid(x: f32) -> f32 {
  let e = exp_accurate(-abs(x));
  return select(select(e, 1.0, x >= 0.0) / (1.0 + e), x, is_nan(x));
}

// With e = exp(-2 |x|) - 1, made as exp_accurate is but without its 1, it is -e / (2 + e).
fn tanh_accurate(x: f32) -> f32 {
  let clamped = max(-2.0 * abs(x), -87.0);
  let n = floor(clamped * 1.44269504 + 0.5);
  let r = (clamped - n * 0.693359375) - n * -2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  let scale = bitcast<f32>(u32(i32(n) + 127) << 23u);
  let e = scale * (p * r * r + r) + (scale - 1.0);
  let magnitude = -e / (2.0 + e);
  return select(select(magnitude, -magnitude, x < 0.0), x, is_nan(x));
}

// x within this magnitude; a NaN stays one.
fn clamped_to(x: f32, limit: f32) -> f32 {
  return select(select(x, limit, x > limit), -limit, x < -limit);
}
{%- endmacro -%}

{#- `step_cell`: what a step makes of the gates' parts and the states h, c, n, m before it. The output is not
    clipped yet. -#}
{%- macro step(cell) %}
struct Stepped {
  states: vec4<f32>,
  saved: array<f32, 5>,
}

fn step_cell(input: vec4<f32>, recurrent: {{ gates_type(cell) }}, bias: vec4<f32>, before: vec4<f32>, n_floor: f32) -> Stepped {
  var done: Stepped;
{%- if cell == "elman" or cell == "relu" %}
  let a = (input.x + bias.x) + recurrent;
{%- if cell == "relu" %}
  let h = select(a, 0.0, a < 0.0);
{%- else %}
  let h = tanh_accurate(a);
{%- endif %}
  done.saved[0] = h;
  done.states.x = h;
{%- elif cell == "lstm" %}
  let a = (input + bias) + recurrent;
  let i = sigmoid(a.x);
  let f = sigmoid(a.y);
  let z = tanh_accurate(a.z);
  let o = sigmoid(a.w);
  let c = f * before.y + i * z;
  done.saved = array<f32, 5>(i, f, z, o, 0.0);
  done.states = vec4<f32>(o * tanh_accurate(c), c, 0.0, 0.0);
{%- elif cell == "gru" %}
  let g = recurrent.x + bias.x;
  let r = sigmoid((input.x + bias.y) + recurrent.y);
  let z = sigmoid((input.y + bias.z) + recurrent.z);
  let q = tanh_accurate((input.z + bias.w) + r * g);
  done.saved = array<f32, 5>(r, z, q, g, 0.0);
  done.states.x = z * (before.x - q) + q;
{%- else %}
  let a = (input + bias) + recurrent;
  let z = tanh_accurate(a.z);
  let o = sigmoid(a.w);
  // Nothing has been seen by an empty element: what c' and m' are does not matter, and they may be infinite.
  let empty = before.z == 0.0;
  let l = select(before.w, 0.0, empty) - softplus(-a.y);
  // A NaN of the forget gate has been lost in the softplus.
  let lost = is_nan(a.y) || is_nan(l);
  let larger = select(select(max(a.x, l), a.x, is_nan(a.x)), a.y + l, lost);
  let m = select(larger, a.x, empty);
  let i = select(exp_accurate(a.x - m), m, is_nan(m));
  var f = select(exp_accurate(l - m), m, is_nan(m));
  f = select(f, 0.0, empty);
  // A state may be infinite where nothing is kept of it.
  let gone = f == 0.0;
  let c = f * select(before.y, 0.0, gone) + i * z;
  let sum = f * select(before.z, 0.0, gone) + i;
  let n = select(sum, n_floor, sum < n_floor);
  done.saved = array<f32, 5>(i, f, sigmoid(-a.y), z, o);
  done.states = vec4<f32>(o * c / n, c, n, m);
{%- endif %}
  return done;
}
{%- endmacro -%}

{#- `back_cell`: gradients of the gates, in the order of the bias's, and of the states h', c', n' before a step,
    but for what h' has by the matrix. `after` are the states behind it, `total` their gradients; that of h
    ends where `clip`, if there is one, has changed h. -#}
{%- macro back(cell) %}
struct Back {
  gates: vec4<f32>,
  before: vec3<f32>,
}

// x (1 - x), the slope of the sigmoid that gave x.
fn slope(x: f32) -> f32 {
  return x * (1.0 - x);
}

fn less_square(x: f32) -> f32 {
  return (1.0 - x) * (1.0 + x);
}

fn back_cell(saved: array<f32, 5>, before: vec3<f32>, after: vec3<f32>, total: vec3<f32>, clips: bool, clip: f32) -> Back {
  var back: Back;
{%- if cell == "elman" or cell == "relu" %}
  let h = select(after.x, saved[0], clips);
  let candidate = saved[0];
{%- elif cell == "lstm" %}
  let i = saved[0];
  let f = saved[1];
  let z = saved[2];
  let o = saved[3];
  let tanh_c = tanh_accurate(after.y);
  let candidate = o * tanh_c;
{%- elif cell == "gru" %}
  let r = saved[0];
  let z = saved[1];
  let q = saved[2];
  let g = saved[3];
  let candidate = z * (before.x - q) + q;
{%- else %}
  let i = saved[0];
  let f = saved[1];
  let z = saved[3];
  let o = saved[4];
  let y = after.y / after.z;
  let candidate = o * y;
{%- endif %}
  let dh = select(total.x, 0.0, clips && !(abs(candidate) <= clip));
{%- if cell == "elman" %}
  back.gates.x = dh * less_square(h);
{%- elif cell == "relu" %}
  back.gates.x = select(0.0, dh, h > 0.0);
{%- elif cell == "lstm" %}
  let dc = total.y + dh * o * less_square(tanh_c);
  back.gates = vec4<f32>(dc * z * slope(i), dc * before.y * slope(f), dc * i * less_square(z), dh * tanh_c * slope(o));
  back.before.y = dc * f;
{%- elif cell == "gru" %}
  let dz = dh * (before.x - q) * slope(z);
  let dn = dh * (1.0 - z) * less_square(q);
  back.gates = vec4<f32>(dn * r, dn * g * slope(r), dz, dn);
  back.before.x = dh * z;
{%- else %}
  let share = dh * o / after.z;
  let dc = total.y + share;
  let dn = total.z - share * y;
  // Of an empty element c' may be infinite; nothing of it is kept.
  let gone = f == 0.0;
  let of_states = dc * select(before.y, 0.0, gone) + dn * select(before.z, 0.0, gone);
  back.gates = vec4<f32>(i * (dc * z + dn), f * of_states * saved[2], dc * i * less_square(z), dh * y * slope(o));
  back.before.y = dc * f;
  back.before.z = dn * f;
{%- endif %}
  return back;
}
{%- endmacro -%}
