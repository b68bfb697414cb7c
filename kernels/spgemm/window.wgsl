{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/terms.wgsl" as terms -%}
{%- import "spgemm/ring.wgsl" as rings -%}
{%- set numeric = stage == "numeric" -%}
{%- set words_of_bits = columns // 32 -%}
{%- if numeric -%}
{%- set parts = kind | split("_") -%}
{%- set ring = parts[0] ~ "_" ~ parts[1] -%}
{%- set element = parts[2] -%}
{%- else -%}
{%- set slots_of_window = 16 -%}
{%- endif -%}
// Sparse product, long rows by windows of columns in workgroup memory{% if numeric %}: places and values; {{ ring }}, {{ element }}{% else %}: how many entries each has{% endif %}.
//
//   c_ij = (+)_l a_il (x) b_lj, and before it beta c0_ij
//
// A workgroup has a row and a window of 2^window_log columns, {{ columns }} at the most, of which the first begins at
// the row's least column. {% if numeric %}Each column has a word, and a bit{% else %}Each column has a bit{% endif %} that tells whether a term has reached it. With a
// mask, another bit tells that products are not wanted there. Rows of B are entered by binary search; what lies behind
// the window ends the walk along them. 2^spread_log invocations take a record together; in order, all take one after another.
{%- if numeric %}
// Where an entry belongs is the count of bits before it, so that the row leaves sorted. A row of several windows
// has a slot for each, with the entries before it; other rows have one window.
{%- else %}
// A row whose values may be summed in windows has a slot for each of these, of 2^slot_log columns, {{ slots_of_window }} in
// a window at the most: it gets the count of its bits. A row's entries are summed over its windows by atomics.
{%- endif %}
//
// Workgroup memory: {% if numeric %}words [{{ columns }}], {% endif %}bits, bits of the mask{% if numeric %} and counts{% endif %} [{{ words_of_bits }}], {{ 4 * (columns + 3 * words_of_bits) if numeric else 8 * words_of_bits }} bytes. Bytes: a column{% if numeric %} and value{% endif %} of B
// for each product. Bound: latency, then bytes.

struct Params {
  count: u32,        // tokens
  window_log: u32,
  spread_log: u32,
  flags: u32,
  b_col_at: u32,
  mask_col_at: u32,
{%- if numeric %}
  b_val_at: u32,
  c_val_at: u32,
  of_slots: u32,     // 1: tokens are slots; 0: they are rows of one window, from `first` on
  first: u32,        // the place of the bin in `rows`
{%- else %}
  slot_log: u32,
{%- endif %}
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<{{ "u32" if numeric else "atomic<u32>" }}>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;
@group(0) @binding(3) var<storage, read_write> b_col: array<u32>;
@group(0) @binding(4) var<storage, read_write> mask_col: array<u32>;
@group(0) @binding(5) var<storage, read_write> slots: array<u32>;   // row, window, entries{% if numeric %} before; a row with the top bit is left out{% endif %}
{%- if numeric %}
@group(0) @binding(6) var<storage, read_write> b_val: array<u32>;
@group(0) @binding(7) var<storage, read_write> c_col: array<u32>;
@group(0) @binding(8) var<storage, read_write> c_val: array<{{ "atomic<u32>" if element == "u8" else "u32" }}>;
{%- else %}
@group(0) @binding(6) var<storage, read_write> tokens: array<u32>;  // row, window, first slot or all ones
{%- endif %}

var<workgroup> bits: array<atomic<u32>, {{ words_of_bits }}>;
var<workgroup> mask_bits: array<atomic<u32>, {{ words_of_bits }}>;
{%- if numeric %}
var<workgroup> words: array<atomic<u32>, {{ columns }}>;
var<workgroup> counts: array<u32, {{ words_of_bits }}>;
{%- else %}
var<workgroup> entries: array<atomic<u32>, {{ slots_of_window }}>;
{%- endif %}
var<workgroup> rounds_of_row: u32;
{{ matrix.flags() }}
{{ matrix.row_fields(not numeric) }}
{{ matrix.record() }}
{{ matrix.row(true) }}
{{ matrix.lower_bound("b_col") }}
{{ matrix.lower_bound("mask_col") }}
{{ terms.walk(true) }}
{%- if numeric %}
{{ rings.load(element, "b_val") }}
{{ rings.store(element, "c_val") }}
{{ rings.multiply(ring, element) }}
{{ rings.words(ring, element) }}
{{ rings.add(ring, element, "words") }}
{{ terms.product(rings.one(element)) }}
{%- endif %}

fn take(row: Row, record: Record, at: u32, key: u32) {
  let index = key - row.start;
  let bit = 1u << (index & 31u);
  // Entries of C0 that are kept pass by the mask.
  let kept = record.of_c0 && has(SEARCHES);
  if (has(MASKED) && !kept && (atomicLoad(&mask_bits[index >> 5u]) & bit) != 0u) {
    return;
  }
  if ((atomicLoad(&bits[index >> 5u]) & bit) == 0u) {
    atomicOr(&bits[index >> 5u], bit);
  }
{%- if numeric %}
  add(index, product(record, at));
{%- endif %}
}

fn words_of_bits() -> u32 {
  return 1u << (params.window_log - 5u);
}

// Nothing has been reached. Of a mask that lists the places, what it does not list is not wanted.
fn clear(thread: u32) {
  for (var i = thread; i < words_of_bits(); i += {{ block[0] }}u) {
    atomicStore(&bits[i], 0u);
    atomicStore(&mask_bits[i], select(0xffffffffu, 0u, has(COMPLEMENTS)));
  }
{%- if numeric %}
  for (var i = thread; i < 1u << params.window_log; i += {{ block[0] }}u) {
    atomicStore(&words[i], IDENTITY);
  }
{%- else %}
  if (thread < {{ slots_of_window }}u) {
    atomicStore(&entries[thread], 0u);
  }
{%- endif %}
}

// Turns the bits of the mask's places in the window.
fn read_mask(row: Row, thread: u32) {
  let first = lower_bound_mask_col(row.mask_first, row.mask_behind, row.low + row.start);
  for (var at = first + thread; at < row.mask_behind; at += {{ block[0] }}u) {
    let key = mask_col[params.mask_col_at + at] - row.low;
    if (key >= row.end) {
      return;
    }
    let index = key - row.start;
    atomicXor(&mask_bits[index >> 5u], 1u << (index & 31u));
  }
}
{%- if numeric %}

// The entries before each word of bits.
fn count_before(thread: u32) {
  for (var i = thread; i < words_of_bits(); i += {{ block[0] }}u) {
    var before = 0u;
    for (var j = 0u; j < i; j++) {
      before += countOneBits(atomicLoad(&bits[j]));
    }
    counts[i] = before;
  }
}
{%- endif %}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let token = {{ matrix.workgroup() }};
  if (token >= params.count) {
    return;
  }
{%- if numeric %}
  var number = 0u;
  var window = 0u;
  var before = 0u;
  if (params.of_slots != 0u) {
    number = slots[3u * token];
    window = slots[3u * token + 1u];
    before = slots[3u * token + 2u];
  } else {
    number = rows[params.first + token];
  }
  let is_used = number < 0x80000000u;
  number &= 0x7fffffffu;
{%- else %}
  let number = tokens[3u * token];
  let window = tokens[3u * token + 1u];
  let first_slot = tokens[3u * token + 2u];
{%- endif %}
  var row = row_at(number);
  row.window = window;
  row.start = window << params.window_log;
  row.end = min(row.start + (1u << params.window_log), row.width + 1u);
{%- set lanes_log = {256: 8}[block[0]] %}
  if (thread == 0u) {
    rounds_of_row = {% if numeric %}select(0u, rounds_of(row, {{ lanes_log }}u), is_used){% else %}rounds_of(row, {{ lanes_log }}u){% endif %};
  }
  // 0 only for a slot that is left out: other rows have terms.
  let rounds = workgroupUniformLoad(&rounds_of_row);
  if (rounds == 0u) {
    return;
  }
  clear(thread);
  workgroupBarrier();
  if (has(MASKED)) {
    read_mask(row, thread);
    workgroupBarrier();
  }
  for (var i = 0u; i < rounds; i++) {
    walk(row, {{ lanes_log }}u, thread, i);
    if (has(ORDERED)) {
      workgroupBarrier();
    }
  }
  workgroupBarrier();
{%- if numeric %}
  count_before(thread);
  workgroupBarrier();
  let first = of_row(number, ENTRIES) + before;
  for (var index = thread; row.start + index < row.end; index += {{ block[0] }}u) {
    let word = atomicLoad(&bits[index >> 5u]);
    let bit = 1u << (index & 31u);
    if ((word & bit) != 0u) {
      let place = first + counts[index >> 5u] + countOneBits(word & (bit - 1u));
      c_col[place] = row.low + row.start + index;
      store_c_val(params.c_val_at + place, bits_of(atomicLoad(&words[index])));
    }
  }
{%- else %}
  // A window without slots is counted as one.
  let slotted = first_slot != 0xffffffffu;
  let slot_log = select(params.window_log, params.slot_log, slotted);
  for (var i = thread; i < words_of_bits(); i += {{ block[0] }}u) {
    atomicAdd(&entries[i >> (slot_log - 5u)], countOneBits(atomicLoad(&bits[i])));
  }
  workgroupBarrier();
  let slots_of_window = 1u << (params.window_log - slot_log);
  if (thread < slots_of_window) {
    let count = atomicLoad(&entries[thread]);
    atomicAdd(&rows[number * {{ matrix.row_words }}u + ENTRIES], count);
    if (slotted && row.start + (thread << slot_log) < row.end) {
      slots[3u * (first_slot + window * slots_of_window + thread) + 2u] = count;
    }
  }
{%- endif %}
}
