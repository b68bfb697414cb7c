// Selective scan: what separates documents, in the form that the scan reads. One invocation per
// word of `target`.
//
//   flags    reset (rows, steps) u8        -> 1 where the flag is not 0
//   seq_idx  (rows, steps) of any integer  -> 2 padding, where negative; 1 reset, where it differs
//            from the nearest earlier one that is not negative; else 0
//   bounds   cu_seqlens of any integer     -> clamped into [0, steps]
//
// 64-bit integers count by their low word. Looking back over padding, an invocation rarely goes
// more than a step. Moves 5 to 12 bytes per position and is bound by that.

struct Params {
  count: u32,
  steps: u32,
  mode: u32,       // 0 flags, 1 seq_idx, 2 bounds
  bytes: u32,      // of an element of source: 1, 4, 8
  is_signed: u32,
  source_at: u32,  // in bytes
  target_at: u32,  // in words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;

// Element i; its low word where it is long.
fn number(i: u32) -> u32 {
  let byte = params.source_at + i * params.bytes;
  let word = source[byte >> 2u];
  return select(word, (word >> ((byte & 3u) * 8u)) & 0xffu, params.bytes == 1u);
}

fn negative(value: u32) -> bool {
  return params.is_signed != 0u && (value >> 31u) != 0u;
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let i = id * {{ block[0] }}u + thread;
  if (i >= params.count) {
    return;
  }
  let value = number(i);
  var result = 0u;
  if (params.mode == 0u) {
    result = select(0u, 1u, value != 0u);
  } else if (params.mode == 2u) {
    result = select(min(value, params.steps), 0u, negative(value));
  } else if (negative(value)) {
    result = 2u;
  } else {
    let row = i - i % params.steps;
    var back = i;
    while (back > row) {
      back -= 1u;
      let earlier = number(back);
      if (!negative(earlier)) {
        result = select(0u, 1u, earlier != value);
        break;
      }
    }
  }
  target_words[params.target_at + i] = result;
}
