{#- What the kernels of WebGPU share: flags, what is known of a row, and records.

    A binding holds 32-bit words, and there are eight of them. So each entry of A, as it is stored, becomes a
    record of three words: the first entry of its row of B, how many there are, and its value times alpha. The kernels
    that multiply need neither A nor the row pointers of B. Where C0 is added its columns and values lie
    behind those of B, and the records of each row begin with one for C0's row. -#}

{#- Needs `params.flags`. -#}
{%- macro flags() %}
const LISTED: u32 = 1u;       // the mask lists the places; they lie in the tables
const FORBIDS: u32 = 2u;      // it forbids them; they lie in the tables
const SEARCHES: u32 = 4u;     // it is searched, since entries of C0 pass by it
const COMPLEMENTS: u32 = 8u;
const MASKED: u32 = 16u;
const ORDERED: u32 = 32u;     // sums go from left to right
const ADDS: u32 = 64u;        // there is a C0
const A_VALUED: u32 = 128u;   // values are read; otherwise they are one
const B_VALUED: u32 = 256u;
const C0_VALUED: u32 = 512u;
const SCALES: u32 = 1024u;    // alpha is not one
const COPIES: u32 = 2048u;    // rows with one entry of A are those of B
const MUST_HASH: u32 = 4096u; // all that tables in workgroup memory cannot hold goes to global memory
const REPEATS: u32 = 8192u;   // in order, where a row of B or C0 may hold a column twice

fn has(flag: u32) -> bool {
  return (params.flags & flag) != 0u;
}
{%- endmacro %}

{#- The words of a row. Behind those of all rows lie the rows' numbers, ordered by bin. -#}
{%- set row_words = 9 -%}
{%- macro row_fields(atomic=false) %}
// The words of a row in `rows`.
const PRODUCTS: u32 = 0u;     // up to 2^32 - 1
const LOW: u32 = 1u;          // the least column that they can have,
const HIGH: u32 = 2u;         // and the largest
const FIRST: u32 = 3u;        // its records,
const BEHIND: u32 = 4u;       // and what follows
const MASK_FIRST: u32 = 5u;   // its places in the mask,
const MASK_BEHIND: u32 = 6u;  // and what follows
const ENTRIES: u32 = 7u;      // in the product; once they are counted, those of all rows before
const BIN: u32 = 8u;

fn of_row(row: u32, field: u32) -> u32 {
  return {% if atomic %}atomicLoad(&rows[row * {{ row_words }}u + field]){% else %}rows[row * {{ row_words }}u + field]{% endif %};
}
{%- endmacro %}

{#- Needs `records`. -#}
{%- macro record() %}
// Entries of B or C0 that lie one behind the other, to be multiplied with a factor.
struct Record {
  first: u32,
  behind: u32,
  of_c0: bool,
  factor: u32,  // the bits of a value
}

const OF_C0: u32 = 0x80000000u;  // beside the count of entries

fn record_at(index: u32) -> Record {
  let first = records[3u * index];
  let count = records[3u * index + 1u];
  return Record(first, first + (count & ~OF_C0), (count & OF_C0) != 0u, records[3u * index + 2u]);
}
{%- endmacro %}

{#- A row as those that multiply take it, and in windows which part. Needs row_fields. -#}
{%- macro row(windowed=false) %}
struct Row {
  low: u32,       // the column of key 0
  width: u32,     // the largest key
  first: u32,     // its records
  behind: u32,
  mask_first: u32,
  mask_behind: u32,
{%- if windowed %}
  window: u32,    // its number, and the keys
  start: u32,
  end: u32,
{%- endif %}
}

fn row_at(number: u32) -> Row {
  var row = Row();
  row.low = of_row(number, LOW);
  row.width = of_row(number, HIGH) - row.low;
  row.first = of_row(number, FIRST);
  row.behind = of_row(number, BEHIND);
  row.mask_first = of_row(number, MASK_FIRST);
  row.mask_behind = of_row(number, MASK_BEHIND);
  return row;
}
{%- endmacro %}

{#- The first of the sorted columns [low, behind) that is not below a column. -#}
{%- macro lower_bound(col) %}
fn lower_bound_{{ col }}(first: u32, behind: u32, column: u32) -> u32 {
  var low = first;
  var high = behind;
  while (low < high) {
    let middle = low + (high - low) / 2u;
    if ({{ col }}[params.{{ col }}_at + middle] < column) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  return low;
}
{%- endmacro %}

{#- The arguments of an entry, and the number of its workgroup, of a grid that may be folded. -#}
{%- macro arguments() %}
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
{%- endmacro %}
{%- macro workgroup() %}workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z){% endmacro %}
