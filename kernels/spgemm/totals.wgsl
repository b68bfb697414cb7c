{#- What the kernels of a pass count for the host: words. Numbers of 64 bits are two, the low one first. -#}
{%- set bins = {"empty": 0, "copied": 1, "tables": 2, "window": 10, "windows": 11, "hashed": 12} -%}
{%- set tables = 8 -%}

{%- macro fields() %}
// The words of `totals`; those of 64 bits are two, the low one first.
const ALL_PRODUCTS: u32 = 0u;
const ALL_ENTRIES: u32 = 2u;
const SLOTS: u32 = 4u;          // windows of long rows in which values are summed
const TOKENS: u32 = 6u;         // and in which entries are counted
const COUNTS: u32 = 8u;         // rows of each of 16 bins
const PLACED: u32 = 24u;        // those that are in their place in the order
const SLOTS_GIVEN: u32 = 40u;
const TOKENS_GIVEN: u32 = 41u;
const LARGEST: u32 = 42u;       // the most that a table in global memory holds
{%- endmacro %}

{#- name(at, low, high): adds to a number of 64 bits in an array of atomics. -#}
{%- macro add_wide(name, array) %}
// Each time that the low word overflows, one invocation sees it.
fn {{ name }}(at: u32, low: u32, high: u32) {
  let before = atomicAdd(&{{ array }}[at], low);
  atomicAdd(&{{ array }}[at + 1u], high + select(0u, 1u, before > ~low));
}
{%- endmacro %}

{%- macro bin_names() %}
const EMPTY_BIN: u32 = {{ bins.empty }}u;
const COPIED: u32 = {{ bins.copied }}u;
const TABLES: u32 = {{ bins.tables }}u;   // by what they hold
const WINDOW: u32 = {{ bins.window }}u;   // rows of one window
const WINDOWS: u32 = {{ bins.windows }}u;
const HASHED: u32 = {{ bins.hashed }}u;
{%- endmacro %}
