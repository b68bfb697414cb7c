{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/totals.wgsl" as totals -%}
// Sparse product, the slots of rows whose values are summed in windows: from the entries of each window to those
// before it in the row; the mark of the slot is taken away.
//
// One invocation per slot; the one whose slot is a row's first window walks all of them. Bytes: 8 for a slot, 12
// more where it is used. Bound: latency.

struct Params {
  count: u32,
  slot_log: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> slots: array<u32>;  // row, window, entries
{{ matrix.row_fields() }}
{{ totals.bin_names() }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let slot = ({{ matrix.workgroup() }}) * {{ block[0] }}u + thread;
  if (slot >= params.count || slots[3u * slot + 1u] != 0u) {
    return;
  }
  let row = slots[3u * slot] & 0x7fffffffu;
  if (of_row(row, BIN) != WINDOWS) {
    return;
  }
  let windows = ((of_row(row, HIGH) - of_row(row, LOW)) >> params.slot_log) + 1u;
  var before = 0u;
  for (var i = slot; i < slot + windows; i++) {
    let entries = slots[3u * i + 2u];
    slots[3u * i] = row;
    slots[3u * i + 2u] = before;
    before += entries;
  }
}
