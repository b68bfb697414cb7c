{%- import "common/element.wgsl" as elements -%}
{%- import "common/activation.wgsl" as activation -%}
{%- import "scan_attention/lines.wgsl" as lines -%}
{%- import "scan_attention/tile.wgsl" as tile -%}
{%- set whole_pass = stage == "gradients" -%}
// Scan attention, {% if whole_pass %}backward{% else %}first pass of the chunked backward: what each chunk of time hands on to earlier ones, from nothing{% endif %}; {{ element }}.
//
//   x[t] = do[t] / u[t] + exp(m[t] - m[t+1]) x[t+1];  y[t] = -(do[t] . o[t]) / u[t] + exp(m[t] - m[t+1]) y[t+1]
//   dv[t] = exp(s[t] - m[t]) x[t];  ds[t] = exp(s[t] - m[t]) (x[t] . v[t] + y[t])
//
// A workgroup of 32 walks one row backwards in tiles of 32 steps, for one head and 64 features, as the
// forward pass. The steps inside a tile are made again from the saved state before it. ds and y are linear in
// their features: each column block has its part, and the parts are summed afterwards.
// Workgroup memory: as the forward pass; products [step][invocation] with an odd stride; and per step
// (fade, 1 / u, p, reach).
// Moves {{ 12 if element == "f32" else 6 }} bytes per (feature, step), v and do from the cache a second time, and is bound by that.

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
  d_o_at: u32, d_o_batch: u32, d_o_head: u32, d_o_time: u32,
  dv_at: u32, dv_batch: u32, dv_head: u32, dv_time: u32,
  // Words of saved_w, and of scratch.
  saved_w_at: u32, saved_m_at: u32, saved_u_at: u32,
  m0_at: u32, u0_at: u32, w0_at: u32,
  codes_at: u32, mask_at: u32, bounds_at: u32,
  du_at: u32, dw_at: u32,   // of spans; where there are several, each column block has its du
  ds_at: u32,        // (column blocks, B, H, L)
  ds_column: u32,    // from column block to column block
  y_at: u32,         // (column blocks, rows, H{{ "" if whole_pass else ", chunks" }})
  lines: u32,        // rows times heads
  x_at: u32,         // (rows, H{{ "" if whole_pass else ", chunks" }}, Dv)
  dv_parts_at: u32,  // (B, H, L, Dv) f32, where several heads share values
  fades_at: u32,     // (rows, H, chunks): how x and y fade in the chunk; 0 where it is cut
}

const HAS_CARRY: u32 = 1u;
const CODES: u32 = 2u;
const MASKED: u32 = 4u;
const PACKED: u32 = 8u;
const NARROW_SCORES: u32 = 16u;
const HAS_DO: u32 = 32u;
const HAS_DU: u32 = 64u;
const HAS_DW: u32 = 128u;
const PARTS: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> scores: array<u32>;
@group(0) @binding(2) var<storage, read_write> v: array<u32>;
@group(0) @binding(3) var<storage, read_write> d_o: array<u32>;
@group(0) @binding(4) var<storage, read_write> saved_w: array<u32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<u32>;
{%- if whole_pass %}
@group(0) @binding(6) var<storage, read_write> dv: array<{{ "u32" if element == "f32" else "atomic<u32>" }}>;
{%- endif %}

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{{ activation.exp_accurate() }}
{{ tile.declarations(element) }}
{{ lines.load_pair(element, "v") }}
{{ lines.load_pair(element, "d_o") }}
{%- if whole_pass %}
{{ elements.rounding(element) }}
{%- if element != "f32" %}
{{ elements.store_masked("dv") }}
{%- endif %}
{{ lines.store_pair(element, "dv") }}
{%- endif %}

var<workgroup> parts: array<f32, {{ 32 * 33 }}>;
var<workgroup> ms: array<f32, 32>;
var<workgroup> ys: array<f32, 32>;
var<workgroup> backs: array<vec4<f32>, 32>;

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
  let d_o_first = params.d_o_at + entry * params.d_o_batch + head * params.d_o_head + column;
{%- if whole_pass %}
  let dv_first = params.dv_at + entry * params.dv_batch + head * params.dv_head + column;
  let dv_part = params.dv_parts_at + entry_line * params.steps * params.width + column;
{%- else %}
  var fade_all = 1.0;
{%- endif %}

  // Gradients of the state behind the span.
  var x = vec2<f32>();
  var y_in = 0.0;
  if (has(HAS_DW)) {
    for (var f = 0u; f < count; f++) {
      x[f] = bitcast<f32>(scratch[params.dw_at + state * params.width + column + f]);
    }
  }
  if (has(HAS_DU) && (column_block == 0u || params.chunks > 1u)) {
    y_in = bitcast<f32>(scratch[params.du_at + column_block * params.lines * params.chunks + state]);
  }
  let first_tile = start / TILE;
  let tiles = select((end + TILE - 1u) / TILE - first_tile, 0u, start == end);
  for (var turn = tiles; turn > 0u; turn--) {
    let tile = (first_tile + turn - 1u) * TILE;
    // The state before the tile: saved, or the carry in where a packed sequence begins inside it.
    var m_in = LEAST;
    var u_in = 0.0;
    var w_in = vec2<f32>();
    if (tile >= start) {
      let saved = entry_line * params.tiles + tile / TILE;
      m_in = number(params.saved_m_at + saved);
      u_in = number(params.saved_u_at + saved);
      for (var f = 0u; f < count; f++) {
        w_in[f] = bitcast<f32>(saved_w[params.saved_w_at + saved * params.width + column + f]);
      }
    } else if (has(HAS_CARRY)) {
      m_in = number(params.m0_at + line);
      u_in = number(params.u0_at + line);
      for (var f = 0u; f < count; f++) {
        w_in[f] = number(params.w0_at + line * params.width + column + f);
      }
    }
{{- tile.fill("scores_first") }}
    ms[thread] = m;
    workgroupBarrier();

    // do . o, with o made again.
    var sum = vec2<f32>();
{%- for i in range(32) %}
    {
      let step = tokens[{{ i }}];
      if ((step & RESET) != 0u) {
        sum = vec2<f32>();
        w_in = vec2<f32>();
      }
      let factor = factors[{{ i }}];
      var value = vec2<f32>();
      if ((step & TAKEN) != 0u) {
        value = pair_v(v_first + (tile + {{ i }}u) * params.v_time, count);
      }
      sum = sum * factor.x + factor.y * value;
      var gradient = vec2<f32>();
      if (has(HAS_DO) && (step & SHOWN) != 0u) {
        gradient = pair_d_o(d_o_first + (tile + {{ i }}u) * params.d_o_time, count);
      }
      let mean = factor.z * w_in + factor.w * sum;
      parts[{{ i * 33 }}u + thread] = mean.x * gradient.x + mean.y * gradient.y;
    }
{%- endfor %}
    workgroupBarrier();
    var product = 0.0;
{%- for i in range(32) %}
    product += parts[thread * 33u + {{ i }}u];
{%- endfor %}

    // y, and how x and y fade. A step sees those behind it up to the next reset.
    var next_reset = TILE;
{%- for i in range(31, -1, -1) %}
    if ({{ i }}u > thread && (tokens[{{ i }}] & RESET) != 0u) {
      next_reset = {{ i }}u;
    }
{%- endfor %}
    var y = -product * inverse;
    ys[thread] = y;
    workgroupBarrier();
{%- for d in [1, 2, 4, 8, 16] %}
    if (thread + {{ d }}u < next_reset) {
      y += ys[thread + {{ d }}u] * exp_below(m, ms[thread + {{ d }}u]);
    }
    workgroupBarrier();
    ys[thread] = y;
    workgroupBarrier();
{%- endfor %}
    let p = weight * within;
    let reach = select(0.0, exp_below(m, ms[31]), next_reset == TILE);
    var fade = 1.0;
    if (thread < 31u) {
      fade = select(0.0, exp_below(m, ms[thread + 1u]), next_reset != thread + 1u);
    }
    y += reach * y_in;
    backs[thread] = vec4<f32>(fade, inverse, p, reach);
    ys[thread] = y;
    workgroupBarrier();

    // x, dv and x . v.
{%- for i in range(31, -1, -1) %}
    {
      let step = tokens[{{ i }}];
      let back = backs[{{ i }}];
{%- if i < 31 %}
      if ((tokens[{{ i + 1 }}] & RESET) != 0u) {
        x = vec2<f32>();
      }
{%- endif %}
      var gradient = vec2<f32>();
      if (has(HAS_DO) && (step & SHOWN) != 0u) {
        gradient = pair_d_o(d_o_first + (tile + {{ i }}u) * params.d_o_time, count);
      }
      x = x * back.x + gradient * back.y;
{%- if whole_pass %}
      var value = vec2<f32>();
      var result = vec2<f32>();
      if ((step & TAKEN) != 0u) {
        value = pair_v(v_first + (tile + {{ i }}u) * params.v_time, count);
        result = back.z * x;
      }
      if ((step & VALID) != 0u) {
        if (has(PARTS)) {
          for (var f = 0u; f < count; f++) {
            scratch[dv_part + (tile + {{ i }}u) * params.width + f] = bitcast<u32>(result[f]);
          }
        } else {
          put_pair_dv(dv_first + (tile + {{ i }}u) * params.dv_time, count, result);
        }
      }
      parts[{{ i * 33 }}u + thread] = x.x * value.x + x.y * value.y;
{%- endif %}
    }
{%- endfor %}
{%- if whole_pass %}
    workgroupBarrier();
    product = 0.0;
{%- for i in range(32) %}
    product += parts[thread * 33u + {{ i }}u];
{%- endfor %}
    if ((meaning & VALID) != 0u) {
      let place = params.ds_at + column_block * params.ds_column + entry_line * params.steps + time;
      scratch[place] = bitcast<u32>(select(0.0, p * (product + y), (meaning & TAKEN) != 0u));
    }
{%- endif %}
    // To the state before the tile.
    let front = select(exp_below(m_in, ms[0]), 0.0, (tokens[0] & RESET) != 0u);
    x = select(x * front, vec2<f32>(), (tokens[0] & RESET) != 0u);
    y_in = select(ys[0] * front, 0.0, (tokens[0] & RESET) != 0u);
{%- if not whole_pass %}
    var tile_fade = exp_below(m_in, ms[31]);
    for (var i = 0u; i < TILE; i++) {
      if ((tokens[i] & RESET) != 0u) {
        tile_fade = 0.0;
      }
    }
    fade_all *= tile_fade;
{%- endif %}
    workgroupBarrier();
  }
{%- if whole_pass %}
  if (state % params.chunks != 0u) {
    return;
  }
  let place = line;
  let places = params.lines;
{%- else %}
  let place = state;
  let places = params.lines * params.chunks;
{%- endif %}
  if (thread == 0u) {
    scratch[params.y_at + column_block * places + place] = bitcast<u32>(y_in);
{%- if not whole_pass %}
    if (column_block == 0u) {
      scratch[params.fades_at + place] = bitcast<u32>(fade_all);
    }
{%- endif %}
  }
  for (var f = 0u; f < count; f++) {
    scratch[params.x_at + place * params.width + column + f] = bitcast<u32>(x[f]);
  }
}
