{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/terms.wgsl" as terms -%}
{%- import "spgemm/table.wgsl" as tables -%}
{%- import "spgemm/ring.wgsl" as rings -%}
{%- set parts = kind | split("_") -%}
{%- set ring = parts[0] ~ "_" ~ parts[1] -%}
{%- set element = parts[2] -%}
{%- set lanes_log = {256: 8}[block[0]] -%}
// Sparse product, long rows whose entries lie far apart, by hash tables in global memory; {{ ring }}, {{ element }}.
//
//   c_ij = (+)_l a_il (x) b_lj, and before it beta c0_ij
//
// A workgroup has a table of 2^slots_log keys and words in a pool, and takes one row after another; see hash.wgsl for
// how terms come into it. A row uses as many slots as it needs, a power of two. Its entries are moved to the
// front of the table, and sorted there by a bitonic network.
//
// Workgroup memory: a few words. Bytes: 8 for each slot, sectors of the table for each product, 16 for each entry and
// stage of the network, log2^2 / 2 of the entries. Bound: latency. Grid: a workgroup for each table.

struct Params {
  first: u32,        // the place of the bin in `rows`
  count: u32,        // its rows
  row_count: u32,    // all rows there are,
  entries: u32,      // and all entries of the product
  tables: u32,
  slots_log: u32,
  spread_log: u32,
  multiplier: u32,   // hash = (key * multiplier) >> shift, of the low bits
  shift: u32,        // 32: by the slots of the row; above: by its width, so that order is kept
  flags: u32,
  b_col_at: u32,
  mask_col_at: u32,
  b_val_at: u32,
  c_val_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;
@group(0) @binding(3) var<storage, read_write> b_col: array<u32>;
@group(0) @binding(4) var<storage, read_write> mask_col: array<u32>;
@group(0) @binding(5) var<storage, read_write> b_val: array<u32>;
@group(0) @binding(6) var<storage, read_write> c_col: array<u32>;
@group(0) @binding(7) var<storage, read_write> c_val: array<{{ "atomic<u32>" if element == "u8" else "u32" }}>;
@group(0) @binding(8) var<storage, read_write> pool: array<atomic<u32>>;  // of each table keys, then words

// Of the row at hand: rounds of its terms, slots, and entries up to a power of two.
var<workgroup> sizes: vec3<u32>;
var<workgroup> placed: atomic<u32>;
{{ matrix.flags() }}
{{ matrix.row_fields() }}
{{ matrix.record() }}
{{ matrix.row() }}
{{ terms.walk(false) }}
{{ rings.load(element, "b_val") }}
{{ rings.store(element, "c_val") }}
{{ rings.multiply(ring, element) }}
{{ rings.words(ring, element) }}
{{ rings.add(ring, element, "pool") }}
{{ terms.product(rings.one(element)) }}
{{ tables.slots("pool") }}
{{ tables.searches() }}

fn word_index(slot: u32) -> u32 {
  return slot + table_slots;
}

fn take(row: Row, record: Record, at: u32, key: u32) {
  if (!passes(row, record, key)) {
    return;
  }
  let slot = slot_of(key);
  if (slot != NO_SLOT) {
    add(word_index(slot), product(record, at));
  }
}

// How many entries the product's row has.
fn entries_of(number: u32) -> u32 {
  var behind = params.entries;
  if (number + 1u < params.row_count) {
    behind = of_row(number + 1u, ENTRIES);
  }
  return behind - of_row(number, ENTRIES);
}

// Slots for 1.6 times the entries; with places of a mask all that there are.
fn sizes_of(row: Row, entries: u32) -> vec3<u32> {
  let bits = 32u - countLeadingZeros(entries + entries / 5u * 3u + entries % 5u * 3u / 5u);
  let slots_log = select(min(bits, params.slots_log), params.slots_log, has(LISTED | FORBIDS));
  let power = 1u << (32u - countLeadingZeros(entries - 1u));
  return vec3<u32>(rounds_of(row, {{ lanes_log }}u), 1u << slots_log, power);
}

// Moves what slots hold to the front: a tile is read before any of it is written.
fn compact(slots: u32, thread: u32) {
  for (var tile = 0u; tile < slots; tile += {{ block[0] }}u) {
    let slot = table_first + tile + thread;
    var key = EMPTY;
    var word = 0u;
    if (tile + thread < slots) {
      key = atomicLoad(&pool[slot]);
      word = atomicLoad(&pool[word_index(slot)]);
    }
    storageBarrier();
    if (key < MARK) {
      let place = table_first + atomicAdd(&placed, 1u);
      atomicStore(&pool[place], key);
      atomicStore(&pool[word_index(place)], word);
    }
    storageBarrier();
  }
}

{{ tables.network("pool", "pool", "storageBarrier") }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let table = {{ matrix.workgroup() }};
  if (table >= params.tables) {
    return;
  }
  table_first = table * (2u << params.slots_log);
  for (var token = table; token < params.count; token += params.tables) {
    let number = rows[params.first + token];
    let row = row_at(number);
    let entries = entries_of(number);
    if (thread == 0u) {
      sizes = sizes_of(row, entries);
      atomicStore(&placed, 0u);
    }
    let of_all = workgroupUniformLoad(&sizes);
    table_slots = of_all.y;
    table_shift = shift_of(row.width);
    for (var slot = table_first + thread; slot < table_first + table_slots; slot += {{ block[0] }}u) {
      atomicStore(&pool[slot], EMPTY);
      atomicStore(&pool[word_index(slot)], IDENTITY);
    }
    storageBarrier();
    preload_mask(row, thread, {{ block[0] }}u);
    storageBarrier();
    for (var i = 0u; i < of_all.x; i++) {
      walk(row, {{ lanes_log }}u, thread, i);
      if (has(ORDERED)) {
        storageBarrier();
      }
    }
    storageBarrier();
    compact(of_all.y, thread);
    for (var index = entries + thread; index < of_all.z; index += {{ block[0] }}u) {
      atomicStore(&pool[table_first + index], EMPTY);
    }
    storageBarrier();
    sort_slots(thread, {{ block[0] }}u, of_all.z);
    let first = of_row(number, ENTRIES);
    for (var index = thread; index < entries; index += {{ block[0] }}u) {
      c_col[first + index] = row.low + atomicLoad(&pool[table_first + index]);
      store_c_val(params.c_val_at + first + index, bits_of(atomicLoad(&pool[word_index(table_first + index)])));
    }
    storageBarrier();
    workgroupBarrier();
  }
}
