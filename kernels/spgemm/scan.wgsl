{%- import "spgemm/matrix.wgsl" as matrix -%}
{%- set own = 8 -%}                          {#- numbers of an invocation -#}
{%- set of_workgroup = block[0] * own -%}
// Sparse product, from the entries of each row to row pointers: an exclusive sum by three kernels. It wraps where the
// host finds that there are too many entries.
{%- if part == "sums" %}
// This one: the sum of each workgroup's {{ of_workgroup }} rows.
{%- elif part == "tops" %}
// This one: what lies before each workgroup's rows, by one workgroup that goes over all sums.
{%- else %}
// This one: what lies before each row, in the place of its entries and as its row pointer.
{%- endif %}
//
// An invocation has {{ own }} neighbouring numbers. Workgroup memory: their sums, {{ 4 * block[0] }} bytes. Bytes: {% if part == "rows" %}12{% else %}4{% endif %} for a {{ "sum" if part == "tops" else "row" }}.

struct Params {
  count: u32,   // {{ "sums" if part == "tops" else "rows" }}
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<u32>;       // of workgroups
@group(0) @binding(3) var<storage, read_write> c_row_ptr: array<u32>;

var<workgroup> partial: array<u32, {{ block[0] }}>;
{{ matrix.row_fields() }}

fn number(index: u32) -> u32 {
  if (index >= params.count) {
    return 0u;
  }
  return {% if part == "tops" %}sums[index]{% else %}of_row(index, ENTRIES){% endif %};
}

// The sum of what invocations up to this one have.
fn inclusive(thread: u32, sum: u32) -> u32 {
  partial[thread] = sum;
  for (var distance = 1u; distance < {{ block[0] }}u; distance *= 2u) {
    workgroupBarrier();
    var so_far = partial[thread];
    if (thread >= distance) {
      so_far += partial[thread - distance];
    }
    workgroupBarrier();
    partial[thread] = so_far;
  }
  workgroupBarrier();
  return partial[thread];
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
{{- matrix.arguments() }}
) {
  let id = {{ matrix.workgroup() }};
{%- if part == "tops" %}
  var before_all = 0u;
  for (var start = 0u; start < params.count; start += {{ of_workgroup }}u) {
{%- else %}
  let start = id * {{ of_workgroup }}u;
{%- endif %}
  let first = start + thread * {{ own }}u;
  var sum = 0u;
  for (var i = 0u; i < {{ own }}u; i++) {
    sum += number(first + i);
  }
  let through = inclusive(thread, sum);
{%- if part == "sums" %}
  if (thread == {{ block[0] - 1 }}u && start < params.count) {
    sums[id] = through;
  }
{%- else %}
  var before = through - sum + {% if part == "tops" %}before_all{% else %}sums[id]{% endif %};
  for (var i = first; i < min(first + {{ own }}u, params.count); i++) {
    let entries = number(i);
{%- if part == "tops" %}
    sums[i] = before;
{%- else %}
    rows[i * {{ matrix.row_words }}u + ENTRIES] = before;
    c_row_ptr[i] = before;
{%- endif %}
    before += entries;
  }
{%- if part == "tops" %}
    before_all += partial[{{ block[0] - 1 }}u];
    workgroupBarrier();
  }
{%- else %}
  if (first < params.count && first + {{ own }}u >= params.count) {
    c_row_ptr[params.count] = before;
  }
{%- endif %}
{%- endif %}
}
