{#- Floats in integers, so that each result is the nearest f32, whatever a device makes of rounding, small numbers and
    fused products. -#}
{%- macro arithmetic() %}
// (-1)^sign m 2^e
struct Exact {
  sign: u32,   // 0 or 1
  m: u32,
  e: i32,
}

fn exact_of(bits: u32) -> Exact {
  let exponent = (bits >> 23u) & 0xffu;
  let fraction = bits & 0x7fffffu;
  let m = select(fraction | 0x800000u, fraction, exponent == 0u);
  return Exact(bits >> 31u, m, i32(max(exponent, 1u)) - 150);
}

// f times an integer of less than 9 bits.
fn times(f: u32, by: i32) -> Exact {
  let x = exact_of(f);
  return Exact(x.sign ^ u32(by < 0), x.m * u32(abs(by)), x.e);
}

// The bits of the nearest f32, the even one of two.
fn nearest(x: Exact) -> u32 {
  let sign = x.sign << 31u;
  if (x.m == 0u) {
    return sign;
  }
  // The number lies in [2^top, 2^(top + 1)).
  let top = x.e + 31 - i32(countLeadingZeros(x.m));
  if (top > 127) {
    return sign | 0x7f800000u;
  }
  let exponent = max(top, -126);
  let shift = exponent - 23 - x.e;
  var kept = 0u;
  if (shift <= 0) {
    kept = x.m << u32(-shift);
  } else if (shift <= 32) {
    kept = select(x.m >> u32(shift), 0u, shift == 32);
    let rest = x.m << (u32(32 - shift));
    kept += u32(rest > 0x80000000u || (rest == 0x80000000u && (kept & 1u) == 1u));
  }
  // The bit above the fraction adds 1 to the exponent; so does a carry.
  return sign | ((u32(exponent + 126) << 23u) + kept);
}

// With its first bit at the top.
fn normal(x: Exact) -> Exact {
  let zeros = countLeadingZeros(x.m) & 31u;
  return Exact(x.sign, x.m << zeros, x.e - i32(zeros));
}

// The sum, its last bit set if there are more behind it: good to be rounded.
fn sum(left: Exact, right: Exact) -> Exact {
  if (left.m == 0u && right.m == 0u) {
    return Exact(left.sign & right.sign, 0u, 0);
  }
  if (left.m == 0u || right.m == 0u) {
    if (left.m == 0u) {
      return right;
    }
    return left;
  }
  var a = normal(left);
  var b = normal(right);
  if (a.e < b.e || (a.e == b.e && a.m < b.m)) {
    let other = a;
    a = b;
    b = other;
  }
  // Two words each, the upper one first, with a bit free above; b goes down to where a is.
  let low = a.m << 31u;
  let down = u32(a.e - b.e) + 1u;
  var part = vec2<u32>();
  if (down < 32u) {
    part = vec2<u32>(b.m >> down, b.m << (32u - down));
  } else if (down == 32u) {
    part = vec2<u32>(0u, b.m);
  } else if (down < 64u) {
    part = vec2<u32>(0u, (b.m >> (down - 32u)) | u32((b.m << (64u - down)) != 0u));
  } else {
    part = vec2<u32>(0u, 1u);
  }
  var total: vec2<u32>;
  if (a.sign == b.sign) {
    total.y = low + part.y;
    total.x = (a.m >> 1u) + part.x + u32(total.y < low);
  } else {
    total.y = low - part.y;
    total.x = (a.m >> 1u) - part.x - u32(low < part.y);
  }
  if (total.x == 0u && total.y == 0u) {
    return Exact(0u, 0u, 0);
  }
  var e = a.e + 1;
  if (total.x == 0u) {
    total = vec2<u32>(total.y, 0u);
    e -= 32;
  }
  let zeros = countLeadingZeros(total.x);
  if (zeros > 0u) {
    total = vec2<u32>((total.x << zeros) | (total.y >> (32u - zeros)), total.y << zeros);
  }
  return Exact(a.sign, total.x | u32(total.y != 0u), e - i32(zeros));
}
{%- endmacro -%}
