{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/totals.wgsl" as totals -%}
// Sparse product, the windows of long rows: a token for each window in which entries are counted, a slot for each in
// which values may be summed. A row's slots follow one another; its tokens know the first.
//
// One workgroup per row; neighbours write neighbouring windows. Slots are marked as unused by the top bit of their
// row. Bytes: 12 for a token, 12 for a slot. Bound: bytes.

struct Params {
  first: u32,       // the place of the bins in `rows`
  count: u32,       // their rows
  slot_log: u32,
  window_log: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> totals: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;  // row, window, first slot or all ones
@group(0) @binding(4) var<storage, read_write> slots: array<u32>;   // row, window, entries

var<workgroup> first_token: u32;
var<workgroup> first_slot: u32;
{{ matrix.row_fields() }}
{{ totals.fields() }}
{{ totals.bin_names() }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let index = {{ matrix.workgroup() }};
  if (index >= params.count) {
    return;
  }
  let row = rows[params.first + index];
  let width = of_row(row, HIGH) - of_row(row, LOW);
  let token_count = (width >> params.window_log) + 1u;
  // Rows of one window need no slot, nor do those that are hashed.
  let windows = (width >> params.slot_log) + 1u;
  let slotted = windows > 1u && of_row(row, BIN) == WINDOWS;
  let slot_count = select(0u, windows, slotted);
  if (thread == 0u) {
    first_token = atomicAdd(&totals[TOKENS_GIVEN], token_count);
    first_slot = atomicAdd(&totals[SLOTS_GIVEN], slot_count);
  }
  workgroupBarrier();
  for (var i = thread; i < token_count; i += {{ block[0] }}u) {
    let at = 3u * (first_token + i);
    tokens[at] = row;
    tokens[at + 1u] = i;
    tokens[at + 2u] = select(0xffffffffu, first_slot, slotted);
  }
  for (var i = thread; i < slot_count; i += {{ block[0] }}u) {
    let at = 3u * (first_slot + i);
    slots[at] = row | 0x80000000u;
    slots[at + 1u] = i;
    slots[at + 2u] = 0u;
  }
}
