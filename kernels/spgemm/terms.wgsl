{#- The terms of a row: those of its records. Of the row's invocations 2^spread_log take a record together, side by
    side along it. Each term goes to `take`. Needs `params`, `records`, `b_col`; in windows lower_bound_b_col. -#}

{%- macro walk(windowed) %}
// How many rounds it takes `lanes` invocations to walk a row's records.
fn rounds_of(row: Row, lanes_log: u32) -> u32 {
  let at_once = 1u << (lanes_log - params.spread_log);
  return (row.behind - row.first + at_once - 1u) / at_once;
}

// Takes the terms of a round that are a lane's.
fn walk(row: Row, lanes_log: u32, lane: u32, round_number: u32) {
  let index = row.first + (round_number << (lanes_log - params.spread_log)) + (lane >> params.spread_log);
  if (index >= row.behind) {
    return;
  }
  let record = record_at(index);
  var at = record.first;
{%- if windowed %}
  if (row.window > 0u) {
    at = lower_bound_b_col(at, record.behind, row.low + row.start);
  }
{%- endif %}
  // Where order counts and a column may come twice, the first walks alone.
  let within = lane & ((1u << params.spread_log) - 1u);
  if (has(REPEATS) && within > 0u) {
    return;
  }
  let stride = select(1u << params.spread_log, 1u, has(REPEATS));
  for (at += within; at < record.behind; at += stride) {
    let key = b_col[params.b_col_at + at] - row.low;
{%- if windowed %}
    if (key >= row.end) {
      return;
    }
{%- endif %}
    take(row, record, at, key);
  }
}
{%- endmacro %}

{#- The product of a record and an entry. -#}
{%- macro product(one) %}
fn product(record: Record, at: u32) -> u32 {
  var value = {{ one }};
  if (has(select(B_VALUED, C0_VALUED, record.of_c0))) {
    value = load_b_val(params.b_val_at + at);
  }
  return word_of(multiply(record.factor, value));
}
{%- endmacro %}
