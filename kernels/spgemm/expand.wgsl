{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- import "spgemm/ring.wgsl" as rings -%}
// Sparse product, the records of A's entries, and where each row's records and places of the mask lie; {{ element }}.
//
//   record of a_il = first entry of row l of B, its entries, alpha a_il;   of row i of C0 = ..., beta
//
// 2^lanes_log neighbouring invocations have a row, and take entries side by side. Bytes: 8 and a value
// for an entry of A, 8 of B's row pointers for each, 12 for a record, 36 for a row. Bound: latency.

struct Params {
  row_count: u32,
  lanes_log: u32,
  flags: u32,
  alpha: u32,        // bits of a value
  beta: u32,
  entries_of_b: u32, // those of C0 lie behind
  // The first word of each, of values the first element.
  a_row_ptr_at: u32,
  a_col_at: u32,
  a_val_at: u32,
  b_row_ptr_at: u32,
  c0_row_ptr_at: u32,
  mask_row_ptr_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> a_row_ptr: array<u32>;
@group(0) @binding(2) var<storage, read_write> a_col: array<u32>;
@group(0) @binding(3) var<storage, read_write> a_val: array<u32>;
@group(0) @binding(4) var<storage, read_write> b_row_ptr: array<u32>;
@group(0) @binding(5) var<storage, read_write> c0_row_ptr: array<u32>;
@group(0) @binding(6) var<storage, read_write> mask_row_ptr: array<u32>;
@group(0) @binding(7) var<storage, read_write> rows: array<u32>;
@group(0) @binding(8) var<storage, read_write> records: array<u32>;
{{ matrix.flags() }}
{{ matrix.row_fields() }}
{{ rings.load(element, "a_val") }}
{{ rings.multiply("or_and" if element == "u8" else "plus_times", element) }}

fn factor_of(entry: u32) -> u32 {
  if (!has(A_VALUED)) {
    return {{ rings.one(element) }};
  }
  return load_a_val(params.a_val_at + entry);
}

fn write_record(index: u32, first: u32, count: u32, factor: u32) {
  records[3u * index] = first;
  records[3u * index + 1u] = count;
  records[3u * index + 2u] = factor;
}

// What is known of a row by now.
fn write_row(row: u32, first: u32, behind: u32) {
  let at = row * {{ matrix.row_words }}u;
  rows[at + FIRST] = first;
  rows[at + BEHIND] = behind;
  if (has(MASKED)) {
    rows[at + MASK_FIRST] = mask_row_ptr[params.mask_row_ptr_at + row];
    rows[at + MASK_BEHIND] = mask_row_ptr[params.mask_row_ptr_at + row + 1u];
  }
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let id = ({{ matrix.workgroup() }}) * {{ block[0] }}u + thread;
  let lanes = 1u << params.lanes_log;
  let row = id >> params.lanes_log;
  let lane = id & (lanes - 1u);
  if (row >= params.row_count) {
    return;
  }
  let first = a_row_ptr[params.a_row_ptr_at + row];
  let behind = a_row_ptr[params.a_row_ptr_at + row + 1u];
  // The records of C0 in the rows before, and in this one.
  let before = select(0u, row, has(ADDS));
  let shift = select(0u, row + 1u, has(ADDS));
  if (lane == 0u) {
    write_row(row, first + before, behind + shift);
    if (has(ADDS)) {
      let begins = c0_row_ptr[params.c0_row_ptr_at + row];
      let count = c0_row_ptr[params.c0_row_ptr_at + row + 1u] - begins;
      write_record(first + before, params.entries_of_b + begins, count | 0x80000000u, params.beta);
    }
  }
  for (var entry = first + lane; entry < behind; entry += lanes) {
    let inner = params.b_row_ptr_at + a_col[params.a_col_at + entry];
    let begins = b_row_ptr[inner];
    var factor = factor_of(entry);
    if (has(SCALES)) {
      factor = multiply(params.alpha, factor);
    }
    write_record(entry + shift, begins, b_row_ptr[inner + 1u] - begins, factor);
  }
}
