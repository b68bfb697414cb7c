{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/totals.wgsl" as totals -%}
// Sparse product, the numbers of the rows in the order of their bins; rows of the empty bin are left out.
//
// One invocation per row. The workgroup counts its rows of each bin, reserves places for them, and puts them there
// in any order. Bytes: 8 for a row. Bound: latency of the atomics.

struct Params {
  row_count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> totals: array<atomic<u32>>;

var<workgroup> counts: array<atomic<u32>, 16>;
var<workgroup> places: array<u32, 16>;
{{ matrix.row_fields() }}
{{ totals.fields() }}
{{ totals.bin_names() }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let row = ({{ matrix.workgroup() }}) * {{ block[0] }}u + thread;
  if (thread < 16u) {
    atomicStore(&counts[thread], 0u);
  }
  workgroupBarrier();
  var bin = EMPTY_BIN;
  if (row < params.row_count) {
    bin = of_row(row, BIN);
  }
  let rank = atomicAdd(&counts[bin], 1u);
  workgroupBarrier();
  if (thread > EMPTY_BIN && thread < 16u) {
    // Behind the rows of all bins before.
    var place = atomicAdd(&totals[PLACED + thread], atomicLoad(&counts[thread]));
    for (var before = EMPTY_BIN + 1u; before < thread; before++) {
      place += atomicLoad(&totals[COUNTS + before]);
    }
    places[thread] = place;
  }
  workgroupBarrier();
  if (bin != EMPTY_BIN) {
    rows[params.row_count * {{ matrix.row_words }}u + places[bin] + rank] = row;
  }
}
