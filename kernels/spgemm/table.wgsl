{%- import "spgemm/matrix.wgsl" as matrix -%}
{#- Hash tables: how a column finds its slot. Needs `params`, `mask_col`, and of matrix.wgsl flags, records and rows. -#}

{#- slot_of(key), preload_mask(row, lane, lanes); `keys` is an array of atomics. -#}
{%- macro slots(keys) %}
const EMPTY: u32 = 0xffffffffu;
const MARK: u32 = 0x80000000u;
const NO_SLOT: u32 = 0xffffffffu;

// The first slot of this invocation's table, how many that has, a power of two, and the shift of its hash.
var<private> table_first: u32;
var<private> table_slots: u32;
var<private> table_shift: u32;

fn hash_of(key: u32) -> u32 {
  return (key * params.multiplier) >> table_shift;
}

fn slot_at(probe: u32) -> u32 {
  return table_first + (probe & (table_slots - 1u));
}

fn shift_of(width: u32) -> u32 {
  let slots_log = countTrailingZeros(table_slots);
  if (params.shift == 32u) {
    return 32u - slots_log;
  }
  let bits = 32u - countLeadingZeros(width);
  return select(params.shift, max(bits, slots_log) - slots_log, params.shift > 32u);
}

// A mask's place, which is there once.
fn preload(key: u32) {
  var probe = hash_of(key);
  loop {
    let exchanged = atomicCompareExchangeWeak(&{{ keys }}[slot_at(probe)], EMPTY, key | MARK);
    if (exchanged.exchanged) {
      break;
    }
    // It may fail without reason.
    probe += select(0u, 1u, exchanged.old_value != EMPTY);
  }
}

// The mask's places in the row's range.
fn preload_mask(row: Row, lane: u32, lanes: u32) {
  if (!has(LISTED | FORBIDS)) {
    return;
  }
  for (var at = row.mask_first + lane; at < row.mask_behind; at += lanes) {
    let key = mask_col[params.mask_col_at + at] - row.low;
    if (key <= row.width) {
      preload(key);
    }
  }
}

// The slot of a key, claimed if there is none; NO_SLOT where the mask does not let it through.
fn slot_of(key: u32) -> u32 {
  var probe = hash_of(key);
  loop {
    let slot = slot_at(probe);
    let found = atomicLoad(&{{ keys }}[slot]);
    if (found == key) {
      return slot;
    }
    let marked = found == (key | MARK);
    if ((found == EMPTY && has(LISTED)) || (marked && has(FORBIDS))) {
      return NO_SLOT;
    }
    if (found == EMPTY || marked) {
      let exchanged = atomicCompareExchangeWeak(&{{ keys }}[slot], found, key);
      if (exchanged.exchanged) {
        return slot;
      }
      // Another one was first, perhaps with the same key: look again.
      continue;
    }
    probe++;
  }
  return NO_SLOT;
}
{%- endmacro %}

{#- sort_slots(lane, lanes, count): sorts so many slots of this invocation's table, a power of two, by their keys, words
    with them, in a bitonic network: runs of 2, 4, ... are sorted, up and down in turns. Needs word_index(slot); the
    count is the same for all invocations of a workgroup. -#}
{%- macro network(keys, words, barrier) %}
fn sort_slots(lane: u32, lanes: u32, count: u32) {
  for (var run = 2u; run <= count; run *= 2u) {
    for (var distance = run / 2u; distance > 0u; distance /= 2u) {
      for (var pair = lane; pair < count / 2u; pair += lanes) {
        // The pair's number with a zero bit put in at the distance.
        let index = 2u * pair - (pair & (distance - 1u));
        let lower = table_first + index;
        let upper = lower + distance;
        let lower_key = atomicLoad(&{{ keys }}[lower]);
        let upper_key = atomicLoad(&{{ keys }}[upper]);
        if ((lower_key > upper_key) == ((index & run) == 0u)) {
          let word = atomicLoad(&{{ words }}[word_index(lower)]);
          atomicStore(&{{ keys }}[lower], upper_key);
          atomicStore(&{{ keys }}[upper], lower_key);
          atomicStore(&{{ words }}[word_index(lower)], atomicLoad(&{{ words }}[word_index(upper)]));
          atomicStore(&{{ words }}[word_index(upper)], word);
        }
      }
      {{ barrier }}();
    }
  }
}
{%- endmacro %}

{#- passes(row, record, key): whether the mask lets a term through, where it is searched. -#}
{%- macro searches() %}
{{ matrix.lower_bound("mask_col") }}

fn passes(row: Row, record: Record, key: u32) -> bool {
  if (!has(SEARCHES) || record.of_c0) {
    return true;
  }
  let column = row.low + key;
  let at = lower_bound_mask_col(row.mask_first, row.mask_behind, column);
  var listed = false;
  if (at < row.mask_behind) {
    listed = mask_col[params.mask_col_at + at] == column;
  }
  return listed != has(COMPLEMENTS);
}
{%- endmacro %}
