{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/totals.wgsl" as totals -%}
// Sparse product, what each row will take: its products, and the least and largest column that they can have.
//
//   products_i = sum over entries a_il of the entries of row l of B;   [low_i, high_i] holds their columns and C0's
//
// 2^lanes_log neighbouring invocations have a row, and take records side by side. Rows of B and C0 are sorted, so
// that their first and last columns bound them. Products are summed in two words, for each row kept at 2^32 - 1 at
// the most. A row without any gets low above high. Workgroup memory: four words for each row. Bytes: 12 for
// a record, 8 of B's columns, 12 for a row. Bound: latency.

struct Params {
  row_count: u32,
  lanes_log: u32,
  b_col_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;
@group(0) @binding(3) var<storage, read_write> b_col: array<u32>;
@group(0) @binding(4) var<storage, read_write> totals: array<atomic<u32>>;

// Of each row that the workgroup has, and the products of all.
var<workgroup> lows: array<atomic<u32>, {{ block[0] }}>;
var<workgroup> highs: array<atomic<u32>, {{ block[0] }}>;
var<workgroup> products: array<atomic<u32>, {{ 2 * block[0] }}>;
var<workgroup> all_products: array<atomic<u32>, 2>;
{{ matrix.row_fields() }}
{{ matrix.record() }}
{{ totals.fields() }}
{{ totals.add_wide("add_products", "products") }}
{{ totals.add_wide("add_to_all", "all_products") }}
{{ totals.add_wide("add_to_totals", "totals") }}

// Takes the records of a row that are a lane's.
fn take_records(row: u32, group: u32, lane: u32) {
  var sum = 0u;
  var overflows = 0u;
  let behind = of_row(row, BEHIND);
  for (var i = of_row(row, FIRST) + lane; i < behind; i += 1u << params.lanes_log) {
    let record = record_at(i);
    let count = record.behind - record.first;
    if (count == 0u) {
      continue;
    }
    atomicMin(&lows[group], b_col[params.b_col_at + record.first]);
    atomicMax(&highs[group], b_col[params.b_col_at + record.behind - 1u]);
    if (!record.of_c0) {
      overflows += select(0u, 1u, sum > ~count);
      sum += count;
    }
  }
  add_products(2u * group, sum, overflows);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let id = ({{ matrix.workgroup() }}) * {{ block[0] }}u + thread;
  let lane = id & ((1u << params.lanes_log) - 1u);
  let row = id >> params.lanes_log;
  let group = thread >> params.lanes_log;
  atomicStore(&lows[thread], 0xffffffffu);
  atomicStore(&highs[thread], 0u);
  atomicStore(&products[2u * thread], 0u);
  atomicStore(&products[2u * thread + 1u], 0u);
  if (thread < 2u) {
    atomicStore(&all_products[thread], 0u);
  }
  workgroupBarrier();
  if (row < params.row_count) {
    take_records(row, group, lane);
  }
  workgroupBarrier();
  if (lane == 0u && row < params.row_count) {
    let sum = atomicLoad(&products[2u * group]);
    let overflows = atomicLoad(&products[2u * group + 1u]);
    let most = select(sum, 0xffffffffu, overflows > 0u);
    let at = row * {{ matrix.row_words }}u;
    rows[at + PRODUCTS] = most;
    rows[at + LOW] = atomicLoad(&lows[group]);
    rows[at + HIGH] = atomicLoad(&highs[group]);
    add_to_all(0u, sum, overflows);
  }
  workgroupBarrier();
  if (thread == 0u) {
    add_to_totals(ALL_PRODUCTS, atomicLoad(&all_products[0]), atomicLoad(&all_products[1]));
  }
}
