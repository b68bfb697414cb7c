{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/terms.wgsl" as terms -%}
{%- import "spgemm/table.wgsl" as tables -%}
{%- import "spgemm/ring.wgsl" as rings -%}
{%- set numeric = stage == "numeric" -%}
{%- set own = 4 if numeric else 8 -%}    {#- slots of an invocation -#}
{%- set slots = own * block[0] -%}
{%- set ranked = 64 -%}                  {#- slots of the largest table whose entries are ranked by counting -#}
{%- set groups = block[0] // 8 -%}       {#- the smallest have eight lanes -#}
{%- if numeric -%}
{%- set parts = kind | split("_") -%}
{%- set ring = parts[0] ~ "_" ~ parts[1] -%}
{%- set element = parts[2] -%}
{%- endif -%}
// Sparse product, rows by hash tables in workgroup memory{% if numeric %}: places and values; {{ ring }}, {{ element }}{% else %}: how many entries each has{% endif %}.
//
//   c_ij = (+)_l a_il (x) b_lj, and before it beta c0_ij
//
// 2^lanes_log neighbouring invocations have a row, and a table of {{ own }} times as many keys{% if numeric %} and values{% endif %}. 2^spread_log of
// them take a record together. A key is a column less the row's least one; it is looked for from a hash on, slot by
// slot. Tables cannot fill: the bins see to it.
//
// Places of a mask lie in the table before any product, as keys with a MARK, which the first product takes
// away; what is not there is dropped, or, with a complement, what is. Where entries of C0 outside of the
// mask are kept, the mask is searched instead. A slot without an entry of the product so has its top bit set.
{%- if numeric %}
//
// In order: all invocations of a row take one record after another, so that a sum gets its terms from left to right, no
// two at a time. Entries leave sorted. Of a table of up to {{ ranked }} slots, whose rows have up to 40 entries, a key's rank
// is the count of smaller ones, which takes no barrier; larger ones are sorted by a bitonic network.
{%- endif %}
//
// Workgroup memory: keys{% if numeric %} and words{% endif %} [{{ slots }}], {{ slots * (8 if numeric else 4) }} bytes. Bytes: a column{% if numeric %} and value{% endif %} of B for each product. Bound:
// latency of probes, then bytes.

struct Params {
  first: u32,        // the place of the bin in `rows`
  count: u32,        // its rows
  lanes_log: u32,
  spread_log: u32,
  multiplier: u32,   // hash = (key * multiplier) >> shift, of the low bits
  shift: u32,        // 32: by the slots of the table; above: by the row's width, so that order is kept
  flags: u32,
  b_col_at: u32,
  mask_col_at: u32,
{%- if numeric %}
  b_val_at: u32,
  c_val_at: u32,
{%- endif %}
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;
@group(0) @binding(3) var<storage, read_write> b_col: array<u32>;
@group(0) @binding(4) var<storage, read_write> mask_col: array<u32>;
{%- if numeric %}
@group(0) @binding(5) var<storage, read_write> b_val: array<u32>;
@group(0) @binding(6) var<storage, read_write> c_col: array<u32>;
@group(0) @binding(7) var<storage, read_write> c_val: array<{{ "atomic<u32>" if element == "u8" else "u32" }}>;
{%- endif %}

var<workgroup> keys: array<atomic<u32>, {{ slots }}>;
{%- if numeric %}
var<workgroup> words: array<atomic<u32>, {{ slots }}>;
{%- else %}
// How many entries each row has.
var<workgroup> entries: array<atomic<u32>, {{ groups }}>;
{%- endif %}
var<workgroup> most_rounds: atomic<u32>;
var<workgroup> rounds_of_all: u32;
{{ matrix.flags() }}
{{ matrix.row_fields() }}
{{ matrix.record() }}
{{ matrix.row() }}
{{ terms.walk(false) }}
{%- if numeric %}
{{ rings.load(element, "b_val") }}
{{ rings.store(element, "c_val") }}
{{ rings.multiply(ring, element) }}
{{ rings.words(ring, element) }}
{{ rings.add(ring, element, "words") }}
{{ terms.product(rings.one(element)) }}
{%- endif %}

{{ tables.slots("keys") }}
{{ tables.searches() }}

fn take(row: Row, record: Record, at: u32, key: u32) {
  if (!passes(row, record, key)) {
    return;
  }
  let slot = slot_of(key);
{%- if numeric %}
  if (slot != NO_SLOT) {
    add(slot, product(record, at));
  }
{%- endif %}
}
{%- if numeric %}

fn word_index(slot: u32) -> u32 {
  return slot;
}
{{ tables.network("keys", "words", "workgroupBarrier") }}

// Writes an entry, which lies in a slot, to its place.
fn write(row: Row, place: u32, slot: u32) {
  c_col[place] = row.low + atomicLoad(&keys[slot]);
  store_c_val(params.c_val_at + place, bits_of(atomicLoad(&words[slot])));
}

// Writes the entries of a lane's {{ own }} slots. Where one belongs is the count of smaller keys.
fn write_ranked(row: Row, first: u32, lane: u32) {
  let slot = table_first + {{ own }}u * lane;
  let own = vec4<u32>({% for i in range(4) %}atomicLoad(&keys[slot + {{ i }}u]){% if not loop.last %}, {% endif %}{% endfor %});
  var rank = vec4<u32>();
  for (var other = table_first; other < table_first + table_slots; other++) {
    rank += select(vec4<u32>(0u), vec4<u32>(1u), vec4<u32>(atomicLoad(&keys[other])) < own);
  }
  for (var i = 0u; i < {{ own }}u; i++) {
    if (own[i] < MARK) {
      write(row, first + rank[i], slot + i);
    }
  }
}

// Writes the entries of a lane from a sorted table, in which they come first.
fn write_sorted(row: Row, first: u32, lane: u32, lanes: u32) {
  for (var i = lane; i < table_slots; i += lanes) {
    if (atomicLoad(&keys[table_first + i]) >= MARK) {
      return;
    }
    write(row, first + i, table_first + i);
  }
}
{%- endif %}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let lanes = 1u << params.lanes_log;
  let lane = thread & (lanes - 1u);
  let group = thread >> params.lanes_log;
  let token = (({{ matrix.workgroup() }}) << ({{ {256: 8}[block[0]] }}u - params.lanes_log)) + group;
  let is_row = token < params.count;
  var number = 0u;
  var row = Row();
  if (is_row) {
    number = rows[params.first + token];
    row = row_at(number);
  }
  table_slots = {{ own }}u * lanes;
  table_first = group * table_slots;
  table_shift = shift_of(row.width);

  for (var slot = thread; slot < {{ slots }}u; slot += {{ block[0] }}u) {
    atomicStore(&keys[slot], EMPTY);
{%- if numeric %}
    atomicStore(&words[slot], IDENTITY);
{%- endif %}
  }
{%- if not numeric %}
  if (thread < {{ groups }}u) {
    atomicStore(&entries[thread], 0u);
  }
{%- endif %}
  if (thread == 0u) {
    atomicStore(&most_rounds, 0u);
  }
  workgroupBarrier();
  if (lane == 0u) {
    atomicMax(&most_rounds, rounds_of(row, params.lanes_log));
  }

  preload_mask(row, lane, lanes);
  workgroupBarrier();
  if (thread == 0u) {
    rounds_of_all = atomicLoad(&most_rounds);
  }
  let rounds = workgroupUniformLoad(&rounds_of_all);
  for (var i = 0u; i < rounds; i++) {
    walk(row, params.lanes_log, lane, i);
    if (has(ORDERED)) {
      workgroupBarrier();
    }
  }
  workgroupBarrier();

  // Slots without an entry have their top bit set.
{%- if numeric %}
  if (params.lanes_log > {{ {64: 4}[ranked] }}u) {
    sort_slots(lane, lanes, {{ own }}u << params.lanes_log);
    if (is_row) {
      write_sorted(row, of_row(number, ENTRIES), lane, lanes);
    }
  } else if (is_row) {
    write_ranked(row, of_row(number, ENTRIES), lane);
  }
{%- else %}
  for (var slot = table_first + lane; slot < table_first + table_slots; slot += lanes) {
    if (atomicLoad(&keys[slot]) < MARK) {
      atomicAdd(&entries[group], 1u);
    }
  }
  workgroupBarrier();
  let count = atomicLoad(&entries[group]);
  if (lane == 0u && is_row) {
    rows[number * {{ matrix.row_words }}u + ENTRIES] = count;
  }
{%- endif %}
}
