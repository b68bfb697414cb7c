{%- import "group_sparse/codes.wgsl" as codes -%}
{%- import "group_sparse/numbers.wgsl" as numbers -%}
{%- set steps = codes.steps(bits) | int -%}
{%- set subgroups = "SUBGROUP" in capabilities -%}
{%- set V = "f32" if vectors == 1 else "vec4<f32>" -%}
// Group-sparse products, the sums of rows: {{ bits }} bits, {{ vectors }} vector{{ "s" if vectors > 1 }} at once.
//
//   sum[n] = sum over kept groups t of row n of s_t (sum of (q - z_t) x)     or of s_t (sum of q x) + m_t (sum of x)
//
// A workgroup has a share of the chunks, 16 bytes of codes each, and takes them 64 at a time, a window: invocation i
// chunk i of it. It adds up what it finds as long as no row begins. In a window where rows begin, the row so far is
// summed over all invocations, each row within the window over its own; what begins last goes on. What a share has
// of a row that begins in an earlier one, its head, goes to a place of its own.
{%- if subgroups %}
// Subgroups of whatever size sum by shuffles, and one another's sums through workgroup memory.
{%- else %}
// Eight neighbours each are summed in their order, then what they have come to.
{%- endif %} The order depends on the
// matrix and the shares alone{{ ", and on the size of subgroups" if subgroups }}.
//
// Codes become floats by their place in the fraction of 2^23, of which 2^23 + z is taken: exact.
// Workgroup memory: {{ (32 if subgroups else 144) * (4 if vectors == 1 else 16) }} bytes to sum through, and 24 that say what the share is.
// Reads all of the matrix once for {{ vectors }} vector{{ "s" if vectors > 1 }}, {{ 24 if bits == 3 else 16 }} bytes of codes for {{ 4 * steps }} weights: bound by that; on the way {{ 16 if vectors == 1 else 64 }} bytes of x
// for four weights come from a cache.

struct Params {
  workgroups: u32,      // with work: shares times runs of vectors
  runs: u32,
  first_share: u32,     // of this launch, in `plan`
  line: u32,            // sums of a run: rows, then heads
  heads_at: u32,
  staged: u32,          // vec4s of x of a run
  tiles: u32,           // words of `beginnings` in `places`
  columns_at: u32,      // words of `places` before the column groups
  column_bytes: u32,    // 0: all groups are kept
  row_chunks: u32,      // of each row, where all groups are kept
  step_mask: u32,       // steps of a segment, less 1: 1, 3, 7
  pair_shift: u32,      // 2^pair_shift pairs of steps are a segment
  group_shift: u32,     // 2^group_shift segments are a group
  mode: u32,            // 0 sym, 1 asym, 2 affine
  kind: u32,            // of scales and offsets
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> codes: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> high: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> beside: array<u32>;
@group(0) @binding(6) var<storage, read_write> plan: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> staged: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> sums: array<{{ V }}>;
{{ numbers.widened() }}
{{ numbers.load("scales") }}
{{ numbers.load("beside") }}

const NONE = 0xffffffffu;

// What stands beside the codes of a group, and where the segment's first four columns of x lie.
struct Slot {
  scale: f32,
  base: f32,      // 2^23 + z
  offset: f32,
  quads: u32,
}

fn slot_of(chunk: u32, segment: u32) -> Slot {
  let segments = {{ steps // 2 }}u >> params.pair_shift;
  let number = chunk * segments + segment;
  let slot = number >> params.group_shift;
  var column = 0u;
  if (params.column_bytes == 0u) {
    column = ((chunk % params.row_chunks) * segments + segment) >> params.group_shift;
  } else if (params.column_bytes == 2u) {
    column = (places[params.columns_at + (slot >> 1u)] >> ((slot & 1u) * 16u)) & 0xffffu;
  } else {
    column = places[params.columns_at + slot];
  }
  var result: Slot;
  result.scale = load_scales(params.kind, slot);
  result.base = 8388608.0;
  result.offset = 0.0;
  if (params.mode == 0u) {
    result.base += {{ [0, 0, 2, 4, 8, 0, 0, 0, 128][bits] }}.0;
  } else if (params.mode == 1u) {
    result.base += f32((beside[slot >> 2u] >> ((slot & 3u) * 8u)) & 0xffu);
  } else {
    result.offset = load_beside(params.kind, slot);
  }
  let within = number & ((1u << params.group_shift) - 1u);
  result.quads = ((column << params.group_shift) + within) * (params.step_mask + 1u);
  return result;
}

// The sum of a chunk; `line` is where the run's vectors lie.
fn sum_of(chunk: u32, line: u32) -> {{ V }} {
  let words = codes[chunk];
{%- if bits == 3 %}
  let bits_above = high[chunk];
{%- endif %}
  var sum = {{ V }}();
  var slot: Slot;
  var products: {{ V }};
  var inputs: {{ V }};
{%- for pair in range(steps // 2) %}
  {
{%- if pair == 0 %}
    slot = slot_of(chunk, 0u);
    products = {{ V }}();
    inputs = {{ V }}();
{%- else %}
    if (({{ pair }}u & (params.step_mask >> 1u)) == 0u) {
      slot = slot_of(chunk, {{ pair }}u >> params.pair_shift);
      products = {{ V }}();
      inputs = {{ V }}();
    }
{%- endif %}
{%- for t in [2 * pair, 2 * pair + 1] %}
    {
      let q = {{ codes.step(bits, t) }};
      let d = bitcast<vec4<f32>>(q | vec4<u32>(0x4b000000u)) - vec4<f32>(slot.base);
{%- if vectors == 1 %}
      let x = staged[line + slot.quads + (({{ t }}u ^ chunk) & params.step_mask)];
      products += dot(d, x);
      if (params.mode == 2u) {
        inputs += dot(vec4<f32>(1.0), x);
      }
{%- else %}
      let at = line + 4u * (slot.quads + (({{ t }}u ^ chunk) & params.step_mask));
      let x0 = staged[at];
      let x1 = staged[at + 1u];
      let x2 = staged[at + 2u];
      let x3 = staged[at + 3u];
      products += d.x * x0 + d.y * x1 + d.z * x2 + d.w * x3;
      if (params.mode == 2u) {
        inputs += x0 + x1 + x2 + x3;
      }
{%- endif %}
    }
{%- endfor %}
    if ((({{ pair }}u + 1u) & (params.step_mask >> 1u)) == 0u) {
      sum += slot.scale * products + slot.offset * inputs;
    }
  }
{%- endfor %}
  return sum;
}

// Bits of a tile's chunks in which rows begin, of those from `begin` to `end`.
fn beginnings(tile: u32, begin: u32, end: u32) -> u32 {
  let first = 32u * tile;
  if (tile >= params.tiles || first >= end || first + 32u <= begin) {
    return 0u;
  }
  var bits = places[tile];
  if (begin > first) {
    bits &= 0xffffffffu << (begin - first);
  }
  if (end - first < 32u) {
    bits &= (1u << (end - first)) - 1u;
  }
  return bits;
}

// The lowest `count` bits of a word, and of a window.
fn ones(count: u32) -> u32 {
  return select((1u << count) - 1u, 0xffffffffu, count >= 32u);
}

fn lowest(bits: vec2<u32>, count: u32) -> vec2<u32> {
  return vec2<u32>(bits.x & ones(count), bits.y & ones(max(count, 32u) - 32u));
}

fn count_of(bits: vec2<u32>) -> u32 {
  return countOneBits(bits.x) + countOneBits(bits.y);
}

// The last bit that is set, 0 if none is.
fn last_of(bits: vec2<u32>) -> u32 {
  if (bits.y != 0u) {
    return 32u + firstLeadingBit(bits.y);
  }
  return select(firstLeadingBit(bits.x), 0u, bits.x == 0u);
}

// The first bit that is set, 64 if none is.
fn first_of(bits: vec2<u32>) -> u32 {
  if (bits.x != 0u) {
    return firstTrailingBit(bits.x);
  }
  return select(32u + firstTrailingBit(bits.y), 64u, bits.y == 0u);
}

// What the share is: the chunks it has, the first row that begins in it, and its head's place.
var<workgroup> share_told: vec4<u32>;
// Bit i where rows begin in window i of 32.
var<workgroup> found: atomic<u32>;
var<workgroup> found_told: u32;
// What {{ "subgroups" if subgroups else "eight neighbours each" }} have of the row so far, and of the rows in which their last ones lie.
var<workgroup> block_rows: array<{{ V }}, {{ 16 if subgroups else 8 }}>;
var<workgroup> block_values: array<{{ V }}, {{ 16 if subgroups else 8 }}>;
{%- if not subgroups %}
var<workgroup> rows: array<{{ V }}, 64>;
var<workgroup> values: array<{{ V }}, 64>;
{%- endif %}

// Who an invocation is in its workgroup, and in its block of neighbours.
struct Member {
  i: u32,
  block: u32,
  lane: u32,
}

// Sums in blocks of so many invocations: `row` over all of a block, and `value` from the invocation in which a row
// begins to this one.
fn summed(me: Member, width: u32, begin: u32, row: {{ V }}, value: {{ V }}) -> {{ V }} {
{%- if subgroups %}
  var all = row;
  var so_far = value;
  for (var apart = 1u; apart < width; apart <<= 1u) {
    all += subgroupShuffleXor(all, apart);
    let before = subgroupShuffleUp(so_far, apart);
    if (me.lane >= apart && me.i - apart >= begin) {
      so_far += before;
    }
  }
  if (me.lane == 0u) {
    block_rows[me.block] = all;
  }
{%- else %}
  rows[me.i] = row;
  values[me.i] = value;
  workgroupBarrier();
  var so_far = {{ V }}();
  for (var i = max(begin, 8u * me.block); i <= me.i; i++) {
    so_far += values[i];
  }
  if (me.i < 8u) {
    var all = {{ V }}();
    for (var i = 8u * me.i; i < 8u * me.i + 8u; i++) {
      all += rows[i];
    }
    block_rows[me.i] = all;
  }
{%- endif %}
  if (me.lane + 1u == width) {
    block_values[me.block] = so_far;
  }
  workgroupBarrier();
  return so_far;
}

// Where sums of a run lie: its line, the place of the row so far, NONE if there is none, and the next row's.
struct To {
  line: u32,
  place: u32,
  next: u32,
}

// Stores what the row so far has come to, with what is `kept` of earlier windows, and the rows that begin and end in
// a window of `value`s; `bits` say where rows begin.
fn store(me: Member, width: u32, to: To, bits: vec2<u32>, kept: {{ V }}, value: {{ V }}) {
  let up_to_here = lowest(bits, me.i + 1u);
  let begin = last_of(up_to_here);
  let row = kept + select({{ V }}(), value, me.i < first_of(bits));
  let so_far = summed(me, width, begin, row, value);
  let up_to_next = lowest(bits, me.i + 2u);
  if (any(up_to_here != vec2<u32>()) && any(up_to_next != up_to_here)) {
    var sum = {{ V }}();
    for (var block = begin / width; block < me.block; block++) {
      sum += block_values[block];
    }
    sums[to.line + to.next + count_of(up_to_here) - 1u] = sum + so_far;
  }
  if (me.i == 0u && to.place != NONE) {
    var sum = block_rows[0];
    for (var block = 1u; block < 64u / width; block++) {
      sum += block_rows[block];
    }
    sums[to.line + to.place] = sum;
  }
  workgroupBarrier();
}

// In which of 32 windows rows begin.
fn windows_with_rows(thread: u32, first: u32, begin: u32, end: u32) -> u32 {
  if (thread == 0u) {
    atomicStore(&found, 0u);
  }
  workgroupBarrier();
  let tile = 2u * first + thread;
  if (beginnings(tile, begin, end) != 0u) {
    atomicOr(&found, 1u << (thread >> 1u));
  }
  workgroupBarrier();
  if (thread == 0u) {
    found_told = atomicLoad(&found);
  }
  return workgroupUniformLoad(&found_told);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
{%- if subgroups %}
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) lane: u32,
{%- endif %}
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  if (id >= params.workgroups) {
    return;
  }
{%- if subgroups %}
  // Not `thread`, as nobody says which of these lie in one subgroup. All subgroups are full.
  let me = Member(subgroup * subgroup_size + lane, subgroup, lane);
  let width = subgroup_size;
{%- else %}
  let me = Member(thread, thread / 8u, thread % 8u);
  let width = 8u;
{%- endif %}
  // Runs of vectors that read the same share are neighbours.
  let share = params.first_share + id / params.runs;
  let run = id % params.runs;
  if (thread == 0u) {
    let own = plan[share];
    let head = select(NONE, params.heads_at + share, own.z != share);
    share_told = vec4<u32>(own.x, plan[share + 1u].x, own.y, head);
  }
  let told = workgroupUniformLoad(&share_told);
  let begin = told.x;
  let end = told.y;
  var to = To(run * params.line, told.w, told.z);
  let vectors = run * params.staged;
  var kept = {{ V }}();
  for (var first = begin / 64u; 64u * first < end; first += 32u) {
    let busy = windows_with_rows(thread, first, begin, end);
    for (var w = 0u; w < 32u && 64u * (first + w) < end; w++) {
      let chunk = 64u * (first + w) + me.i;
      var value = {{ V }}();
      if (chunk >= begin && chunk < end) {
        value = sum_of(chunk, vectors);
      }
      if (((busy >> w) & 1u) == 0u) {
        kept += value;
      } else {
        let tile = 2u * (first + w);
        let bits = vec2<u32>(beginnings(tile, begin, end), beginnings(tile + 1u, begin, end));
        store(me, width, to, bits, kept, value);
        kept = select({{ V }}(), value, me.i >= last_of(bits));
        to.next += count_of(bits);
        to.place = to.next - 1u;
      }
    }
  }
  store(me, width, to, vec2<u32>(), kept, {{ V }}());
}
