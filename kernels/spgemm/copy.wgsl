{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/terms.wgsl" as terms -%}
{%- import "spgemm/ring.wgsl" as rings -%}
{%- set parts = kind | split("_") -%}
{%- set ring = parts[0] ~ "_" ~ parts[1] -%}
{%- set element = parts[2] -%}
// Sparse product, rows with one entry of A: the row of B, each value times it; {{ ring }}, {{ element }}.
//
//   c_ij = a_il (x) b_lj
//
// 2^lanes_log neighbouring invocations have a row, and copy side by side. Bytes: a column and value of B and of C for
// each entry. Bound: bytes.

struct Params {
  first: u32,        // the place of the bin in `rows`
  count: u32,        // its rows
  lanes_log: u32,
  flags: u32,
  b_col_at: u32,
  b_val_at: u32,
  c_val_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;
@group(0) @binding(3) var<storage, read_write> b_col: array<u32>;
@group(0) @binding(4) var<storage, read_write> b_val: array<u32>;
@group(0) @binding(5) var<storage, read_write> c_col: array<u32>;
@group(0) @binding(6) var<storage, read_write> c_val: array<{{ "atomic<u32>" if element == "u8" else "u32" }}>;
{{ matrix.flags() }}
{{ matrix.row_fields() }}
{{ matrix.record() }}
{{ rings.load(element, "b_val") }}
{{ rings.store(element, "c_val") }}
{{ rings.multiply(ring, element) }}
{{ rings.words(ring, element) }}
{{ terms.product(rings.one(element)) }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let id = ({{ matrix.workgroup() }}) * {{ block[0] }}u + thread;
  let lanes = 1u << params.lanes_log;
  let token = id >> params.lanes_log;
  if (token >= params.count) {
    return;
  }
  let row = rows[params.first + token];
  let record = record_at(of_row(row, FIRST));
  let shift = of_row(row, ENTRIES) - record.first;
  for (var at = record.first + (id & (lanes - 1u)); at < record.behind; at += lanes) {
    c_col[at + shift] = b_col[params.b_col_at + at];
    store_c_val(params.c_val_at + at + shift, bits_of(product(record, at)));
  }
}
