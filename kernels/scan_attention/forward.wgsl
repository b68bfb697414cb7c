{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "scan_attention/lines.wgsl" as lines -%}
{%- import "scan_attention/tile.wgsl" as tile -%}
{%- set scans = stage == "scan" -%}
// Scan attention, {% if scans %}forward{% else %}first pass of the chunked forward: the state that each chunk of time ends with, from nothing{% endif %}; {{ element }}.
//
//   m' = max(m, s);  u' = u exp(m - m') + exp(s - m');  w' = w exp(m - m') + exp(s - m') v;  o = w' / u'
//
// A workgroup of 32 walks one row in tiles of 32 steps, for one head and 64 features: invocation t has the
// numbers of step t that all features share, and two neighbouring features of every step. Sums over a
// tile start from nothing, and the state before it is added to each of them.
// Workgroup memory: per step its meaning, (m', u'), and (keep, weight, before / u, within / u).
// Moves {{ 8 if element == "f32" else 4 }} bytes per (feature, step), and is bound by that.

struct Params {
  heads: u32,
  group: u32,        // heads that share values
  steps: u32,
  width: u32,
  columns: u32,      // blocks of 64 features
  chunks: u32,       // spans of time side by side
  chunk: u32,        // steps of a span, a multiple of 32
  tiles: u32,
  flags: u32,
  count: u32,        // workgroups with work
  // Element indices within the bindings, and strides of batch entries, heads and steps.
  scores_at: u32, scores_batch: u32, scores_head: u32,
  v_at: u32, v_batch: u32, v_head: u32, v_time: u32,
  o_at: u32, o_batch: u32, o_head: u32, o_time: u32,
  // Words of scratch.
  m0_at: u32, u0_at: u32, w0_at: u32,
  codes_at: u32, mask_at: u32, bounds_at: u32,
  lse_at: u32, m_at: u32, u_at: u32, w_at: u32,
  saved_m_at: u32, saved_u_at: u32, saved_w_at: u32,
  cuts_at: u32,      // (rows, H, chunks): 1 where the chunk has a reset
}

const HAS_CARRY: u32 = 1u;
const CODES: u32 = 2u;
const MASKED: u32 = 4u;
const PACKED: u32 = 8u;
const NARROW_SCORES: u32 = 16u;
const SAVE: u32 = 32u;
const ENDS: u32 = 64u;       // the state behind the span is written

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scores: array<u32>;
@group(0) @binding(2) var<storage, read_write> v: array<u32>;
{%- if scans %}
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(4) var<storage, read_write> o: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
{%- else %}
@group(0) @binding(3) var<storage, read_write> scratch: array<u32>;
{%- endif %}

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ tile.declarations(element) }}
{{ lines.load_pair(element, "v") }}
{%- if scans %}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("o") }}
{%- endif %}
{{ lines.store_pair(element, "o") }}
{%- endif %}

// m, u and the raw factors of the tile's last step.
var<workgroup> last: vec4<f32>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.count) {
    return;
  }
  let column_block = id % params.columns;
  let state = id / params.columns;     // (row, head, chunk)
  let line = state / params.chunks;
  let row = line / params.heads;
  let head = line % params.heads;
  if (thread == 0u) {
    span = span_of(row, state % params.chunks);
  }
  let bounds = workgroupUniformLoad(&span);
  let start = bounds.x;
  let end = bounds.y;
  let entry = select(row, 0u, has(PACKED));
  let column = column_block * 64u + 2u * thread;
  let count = min(2u, max(params.width, column) - column);
  let entry_line = entry * params.heads + head;
  let scores_first = params.scores_at + entry * params.scores_batch + head * params.scores_head;
  let v_first = params.v_at + entry * params.v_batch + (head / params.group) * params.v_head + column;
{%- if scans %}
  let o_first = params.o_at + entry * params.o_batch + head * params.o_head + column;
{%- else %}
  var cut = 0u;
{%- endif %}

  var m_in = LEAST;
  var u_in = 0.0;
  var w_in = vec2<f32>();
  if (has(HAS_CARRY)) {
    m_in = number(params.m0_at + state);
    u_in = number(params.u0_at + state);
    for (var f = 0u; f < count; f++) {
      w_in[f] = number(params.w0_at + state * params.width + column + f);
    }
  }
  for (var tile = start / TILE * TILE; tile < end; tile += TILE) {
{%- if scans %}
    if (has(SAVE) && tile >= start) {
      let saved = entry_line * params.tiles + tile / TILE;
      if (thread == 0u && column_block == 0u) {
        scratch[params.saved_m_at + saved] = bits_of(m_in);
        scratch[params.saved_u_at + saved] = bitcast<u32>(u_in);
      }
      for (var f = 0u; f < count; f++) {
        scratch[params.saved_w_at + saved * params.width + column + f] = bitcast<u32>(w_in[f]);
      }
    }
{%- endif %}
{{- tile.fill("scores_first") }}
    if (thread == 31u) {
      last = vec4<f32>(m, u, before, within);
    }
{%- if scans %}
    if (column_block == 0u && (meaning & VALID) != 0u) {
      let seen = (meaning & SHOWN) != 0u && u != 0.0;
      scratch[params.lse_at + entry_line * params.steps + time] =
        select(MINUS_INFINITY, bitcast<u32>(m + log(max(u, 1e-38))), seen);
    }
{%- endif %}
    workgroupBarrier();

    var sum = vec2<f32>();
{%- for i in range(32) %}
    {
      let step = tokens[{{ i }}];
      if ((step & RESET) != 0u) {
        sum = vec2<f32>();
        w_in = vec2<f32>();
{%- if not scans %}
        cut = 1u;
{%- endif %}
      }
      let factor = factors[{{ i }}];
      var value = vec2<f32>();
      if ((step & TAKEN) != 0u) {
        value = pair_v(v_first + (tile + {{ i }}u) * params.v_time, count);
      }
      sum = sum * factor.x + factor.y * value;
{%- if scans %}
      if ((step & VALID) != 0u) {
        let mean = factor.z * w_in + factor.w * sum;
        put_pair_o(
          o_first + (tile + {{ i }}u) * params.o_time,
          count,
          select(vec2<f32>(), mean, (step & SHOWN) != 0u),
        );
      }
{%- endif %}
    }
{%- endfor %}
    w_in = last.z * w_in + last.w * sum;
    m_in = last.x;
    u_in = last.y;
    workgroupBarrier();
  }

  if (!has(ENDS)) {
    return;
  }
  if (thread == 0u && column_block == 0u) {
    scratch[params.m_at + state] = bits_of(m_in);
    scratch[params.u_at + state] = bitcast<u32>(u_in);
{%- if not scans %}
    scratch[params.cuts_at + state] = cut;
{%- endif %}
  }
  for (var f = 0u; f < count; f++) {
    scratch[params.w_at + state * params.width + column + f] = bitcast<u32>(w_in[f]);
  }
}
