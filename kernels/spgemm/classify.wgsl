{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/totals.wgsl" as totals -%}
{%- set symbolic = stage == "symbolic" -%}
// Sparse product, the bin of each row, before {% if symbolic %}entries are counted{% else %}values are summed{% endif %}.
//
// What a table of the row must hold: its {% if symbolic %}products, or the width of its range where that is less{% else %}entries{% endif %}; with a mask whose
// places lie in the table the places too. `limits` say what the tables of each bin can hold; rows beyond take
// windows of columns{% if not symbolic %}, as do rows of one window that is an eighth full{% endif %}.
{%- if symbolic %} Where windows would cost more than hashing,
//
//   windows (records (1 + log2 of the mean row of B) + window / 64) > 8 products,
//
// the row is hashed in global memory when its values are summed; only other rows get slots for the windows of their sums.
{%- else %} Rows that have no slots for their windows are hashed in global memory.
{%- endif %}
//
// One invocation per row; rows of a bin are counted in the workgroup first. Bytes: 32 for a row. Bound: bytes.

struct Params {
  row_count: u32,
  slot_log: u32,               // columns of a window in which values are summed
  window_log: u32,             // and of one in which entries are counted
  search_cost: u32,            // 1 + log2 of the mean row of B
  flags: u32,
  limits: array<vec4<u32>, {{ totals.tables // 4 }}>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;
@group(0) @binding(3) var<storage, read_write> totals: array<atomic<u32>>;

var<workgroup> counts: array<atomic<u32>, 16>;
{%- if not symbolic %}
var<workgroup> all_entries: array<atomic<u32>, 2>;
{%- endif %}
{{ matrix.flags() }}
{{ matrix.row_fields() }}
{{ matrix.record() }}
{{ totals.fields() }}
{{ totals.bin_names() }}
{{ totals.add_wide("add_to_totals", "totals") }}
{%- if not symbolic %}
{{ totals.add_wide("add_to_all", "all_entries") }}
{%- endif %}

// The sum, or the largest number.
fn add_saturated(a: u32, b: u32) -> u32 {
  return select(a + b, 0xffffffffu, a > ~b);
}

// The bin of the least table that holds so many; the bin of windows where none does.
fn table_for(need: u32) -> u32 {
  for (var i = 0u; i < {{ totals.tables }}u; i++) {
    if (need <= params.limits[i >> 2u][i & 3u]) {
      return TABLES + i;
    }
  }
  return WINDOWS;
}

// The bin of a row that can have so many entries, of so many columns.
fn bin_of(row: u32, upper: u32, columns: u32) -> u32 {
  let records_of_row = of_row(row, BEHIND) - of_row(row, FIRST);
  if (has(COPIES) && records_of_row == 1u) {
    return COPIED;
  }
  let windows = ((columns - 1u) >> params.slot_log) + 1u;
{%- if not symbolic %}
  if (windows == 1u && 8u * upper >= columns) {
    return WINDOW;
  }
{%- endif %}
  var need = upper;
  if (has(LISTED | FORBIDS)) {
    let places = of_row(row, MASK_BEHIND) - of_row(row, MASK_FIRST);
    need = min(select(places, add_saturated(places, upper), has(FORBIDS)), columns);
  }
  // Nothing is asked for.
  if (need == 0u) {
    return EMPTY_BIN;
  }
  let bin = table_for(need);
  if (bin != WINDOWS || windows == 1u) {
    return {% if symbolic %}bin{% else %}select(bin, WINDOW, bin == WINDOWS){% endif %};
  }
{%- if symbolic %}
  let window_words = (1u << params.slot_log) >> 6u;
  let cost = f32(windows) * (f32(records_of_row) * f32(params.search_cost) + f32(window_words));
  let hashes = has(MUST_HASH) || cost > 8.0 * f32(of_row(row, PRODUCTS));
  return select(WINDOWS, HASHED, hashes);
{%- else %}
  let hashes = of_row(row, BIN) == HASHED;
  if (hashes) {
    atomicMax(&totals[LARGEST], need);
  }
  return select(WINDOWS, HASHED, hashes);
{%- endif %}
}

// Finds the bin of a row{% if symbolic %}, and the entries of one that is copied{% endif %}.
fn classify(row: u32) {
  let at = row * {{ matrix.row_words }}u;
  var added = 0u;
  if (has(ADDS)) {
    let record = record_at(of_row(row, FIRST));
    added = record.behind - record.first;
  }
  let columns = of_row(row, HIGH) - of_row(row, LOW) + 1u;
  var upper = add_saturated(of_row(row, PRODUCTS), added);
{%- if not symbolic %}
  upper = min(upper, of_row(row, ENTRIES));
{%- endif %}
  var bin = EMPTY_BIN;
  if (upper > 0u) {
    upper = min(upper, columns);
    bin = bin_of(row, upper, columns);
    atomicAdd(&counts[bin], 1u);
  }
  rows[at + BIN] = bin;
{%- if symbolic %}
  rows[at + ENTRIES] = select(0u, upper, bin == COPIED);
  if (bin == WINDOWS || bin == HASHED) {
    add_to_totals(TOKENS, ((columns - 1u) >> params.window_log) + 1u, 0u);
    let windows = ((columns - 1u) >> params.slot_log) + 1u;
    add_to_totals(SLOTS, select(0u, windows, bin == WINDOWS && windows > 1u), 0u);
  }
{%- else %}
  add_to_all(0u, of_row(row, ENTRIES), 0u);
{%- endif %}
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let row = ({{ matrix.workgroup() }}) * {{ block[0] }}u + thread;
  if (thread < 16u) {
    atomicStore(&counts[thread], 0u);
  }
{%- if not symbolic %}
  if (thread < 2u) {
    atomicStore(&all_entries[thread], 0u);
  }
{%- endif %}
  workgroupBarrier();
  if (row < params.row_count) {
    classify(row);
  }
  workgroupBarrier();
  if (thread < 16u) {
    atomicAdd(&totals[COUNTS + thread], atomicLoad(&counts[thread]));
  }
{%- if not symbolic %}
  if (thread == 0u) {
    add_to_totals(ALL_ENTRIES, atomicLoad(&all_entries[0]), atomicLoad(&all_entries[1]));
  }
{%- endif %}
}
