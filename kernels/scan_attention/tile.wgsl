{%- import "common/element.wgsl" as elements -%}
{#- What the 32 steps of a tile do to the state of one head; invocation t has step t. As tile.ptx: within
    the tile sums start from nothing, and the state before it is added to each of them. LEAST stands for
    -∞, which WGSL may not know. Needs `params`, `has`, buffers `scores` and `scratch`. -#}

{#- Numbers that may be -∞. Needs exp_accurate. -#}
{%- macro numbers() %}
const LEAST: f32 = -3.4028e38;
const MINUS_INFINITY: u32 = 0xff800000u;

// A number of the scratch buffer, with LEAST for -∞.
fn number(i: u32) -> f32 {
  let bits = scratch[i];
  return select(bitcast<f32>(bits), LEAST, bits == MINUS_INFINITY);
}

// The bits of a number that may be LEAST.
fn bits_of(x: f32) -> u32 {
  return select(bitcast<u32>(x), MINUS_INFINITY, x <= LEAST);
}

// exp(x - largest), 0 where x is nothing.
fn exp_below(x: f32, largest: f32) -> f32 {
  return select(exp_accurate(min(x - largest, 0.0)), 0.0, x <= LEAST);
}
{%- endmacro -%}

{%- macro declarations(element) %}
{{ numbers() }}

const TILE: u32 = 32u;
const VALID: u32 = 1u;        // the step lies in the span
const TAKEN: u32 = 2u;        // its token counts
const RESET: u32 = 4u;
const SHOWN: u32 = 8u;        // it is no padding

var<workgroup> span: vec2<u32>;
var<workgroup> tokens: array<u32, 32>;
var<workgroup> prefix: array<vec2<f32>, 32>;
// keep, weight, before / u, within / u of each step.
var<workgroup> factors: array<vec4<f32>, 32>;

{{ elements.load(element, "scores") }}

// The score at an element of its binding, f32 or {{ element }}.
fn score(i: u32) -> f32 {
{%- if element == "f32" %}
  let bits = scores[i];
{%- else %}
  if (has(NARROW_SCORES)) {
    let half = (scores[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu;
    return select(load_scores(i), LEAST, half == {{ "0xff80u" if element == "bf16" else "0xfc00u" }});
  }
  let bits = scores[i];
{%- endif %}
  return select(bitcast<f32>(bits), LEAST, bits == MINUS_INFINITY);
}

// What a step means.
fn token(entry: u32, time: u32, start: u32, end: u32) -> u32 {
  if (time < start || time >= end) {
    return 0u;
  }
  var code = 0u;
  if (has(CODES)) {
    code = scratch[params.codes_at + entry * params.steps + time];
  }
  if (code == 2u) {
    return VALID;
  }
  var meaning = VALID | SHOWN | TAKEN;
  if (code == 1u) {
    meaning |= RESET;
  }
  if (has(MASKED) && scratch[params.mask_at + entry * params.steps + time] == 0u) {
    meaning &= ~TAKEN;
  }
  return meaning;
}

// The steps of a row, or of a chunk of it.
fn span_of(row: u32, chunk: u32) -> vec2<u32> {
  if (has(PACKED)) {
    let start = scratch[params.bounds_at + row];
    return vec2<u32>(start, max(start, scratch[params.bounds_at + row + 1u]));
  }
  let start = chunk * params.chunk;
  return vec2<u32>(start, min(params.steps, start + params.chunk));
}
{%- endmacro -%}

{#- Fills `factors` for the tile at `tile`; m_local, u_local, m, u of this invocation's step become known.
    m_in, u_in are the state before the tile. -#}
{%- macro fill(scores_first) %}
    let time = tile + thread;
    let meaning = token(entry, time, start, end);
    tokens[thread] = meaning;
    var m_local = LEAST;
    if ((meaning & TAKEN) != 0u) {
      m_local = score({{ scores_first }} + time);
    }
    let own_score = m_local;
    workgroupBarrier();
    // The steps that count for this one begin at the last reset, itself included.
    var segment = 0u;
{%- for i in range(32) %}
    if ({{ i }}u <= thread && (tokens[{{ i }}] & RESET) != 0u) {
      segment = {{ i }}u;
    }
{%- endfor %}
    let fresh = (tokens[segment] & RESET) != 0u;
    prefix[thread] = vec2<f32>(m_local, 0.0);
    workgroupBarrier();
{%- for d in [1, 2, 4, 8, 16] %}
    if (thread >= segment + {{ d }}u) {
      m_local = max(m_local, prefix[thread - {{ d }}u].x);
    }
    workgroupBarrier();
    prefix[thread].x = m_local;
    workgroupBarrier();
{%- endfor %}
    let weight = exp_below(own_score, m_local);
    var u_local = weight;
    prefix[thread].y = u_local;
    workgroupBarrier();
{%- for d in [1, 2, 4, 8, 16] %}
    if (thread >= segment + {{ d }}u) {
      let earlier = prefix[thread - {{ d }}u];
      u_local += earlier.y * exp_below(earlier.x, m_local);
    }
    workgroupBarrier();
    prefix[thread].y = u_local;
    workgroupBarrier();
{%- endfor %}
    var keep = 0.0;
    if (thread > segment) {
      keep = exp_below(prefix[thread - 1u].x, m_local);
    }
    let m_outer = select(m_in, LEAST, fresh);
    let m = max(m_outer, m_local);
    let before = exp_below(m_outer, m);
    let within = exp_below(m_local, m);
    let u = before * select(u_in, 0.0, fresh) + within * u_local;
    let inverse = select(1.0 / u, 0.0, u == 0.0);
    factors[thread] = vec4<f32>(keep, weight, before * inverse, within * inverse);
{%- endmacro -%}
