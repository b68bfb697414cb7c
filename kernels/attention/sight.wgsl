{#- Which keys a query sees, and where its sequence lies. Needs `params`, `has` and buffer `scratch`. -#}

{%- macro declarations() %}
// A sequence: where its queries and keys begin, how many there are, its batch entry and its number.
struct Sequence {
  first_query: u32,
  queries: u32,
  first_key: u32,
  keys: u32,
  entry: u32,
  number: u32,
}

// Tokens of a whole sequence: up to two runs at equal distances.
struct Tokens {
  start: u32,
  stride: u32,
  length: u32,
  late_start: u32,
  late_stride: u32,
  late_length: u32,
}

// The position of a token among those of the whole sequence.
fn position(tokens: Tokens, i: u32) -> i32 {
  if (i < tokens.length) {
    return i32(tokens.start + i * tokens.stride);
  }
  return i32(tokens.late_start + (i - tokens.length) * tokens.late_stride);
}

// How many of some tokens at equal distances come before a position.
fn reached(start: u32, stride: u32, length: u32, before: i32) -> u32 {
  let beyond = u32(max(before - i32(start), 0));
  return min((beyond + stride - 1u) / stride, length);
}

fn tokens_before(tokens: Tokens, before: i32) -> u32 {
  return reached(tokens.start, tokens.stride, tokens.length, before)
    + reached(tokens.late_start, tokens.late_stride, tokens.late_length, before);
}

// Tokens of a packed sequence are all of it.
fn whole(count: u32) -> Tokens {
  return Tokens(0u, 1u, count, 0u, 1u, 0u);
}

fn queries_of(sequence: Sequence) -> Tokens {
  if (has(PACKED)) {
    return whole(sequence.queries);
  }
  return Tokens(params.q_start, params.q_stride, params.q_length, params.q_late_start, params.q_late_stride, params.q_late_length);
}

fn keys_of(sequence: Sequence) -> Tokens {
  if (has(PACKED)) {
    return whole(sequence.keys);
  }
  return Tokens(params.k_start, params.k_stride, params.k_length, params.k_late_start, params.k_late_stride, params.k_late_length);
}

// What is added to positions of queries.
fn offset_of(sequence: Sequence) -> i32 {
  if (has(PACKED)) {
    return select(0, i32(sequence.keys) - i32(sequence.queries), has(BOTTOM_RIGHT));
  }
  return params.offset;
}

// The keys that a query sees.
fn keys_seen(sequence: Sequence, query: u32) -> vec2<u32> {
  let at = position(queries_of(sequence), query) + offset_of(sequence);
  let keys = keys_of(sequence);
  return vec2<u32>(tokens_before(keys, at + params.low), tokens_before(keys, at + params.high + 1));
}

// The queries that see a key.
fn queries_seeing(sequence: Sequence, key: u32) -> vec2<u32> {
  let at = position(keys_of(sequence), key) - offset_of(sequence);
  let queries = queries_of(sequence);
  return vec2<u32>(tokens_before(queries, at - params.high), tokens_before(queries, at - params.low + 1));
}

fn sequence_of(number: u32) -> Sequence {
  if (!has(PACKED)) {
    return Sequence(0u, params.queries, 0u, params.keys, number, number);
  }
  let first_query = scratch[params.query_bounds_at + number];
  let first_key = scratch[params.key_bounds_at + number];
  let queries = max(scratch[params.query_bounds_at + number + 1u], first_query) - first_query;
  let keys = max(scratch[params.key_bounds_at + number + 1u], first_key) - first_key;
  return Sequence(first_query, queries, first_key, keys, 0u, number);
}
{%- endmacro -%}
