// Which taps count at each position: bit d of a word where seq_idx[t] is not negative and
// seq_idx[t - d] is the same; what lies in front of the row is of the document of its first position.
// 0 is padding. One invocation per word; moves the index, what lies before it, and 4 bytes.

struct Params {
  count: u32,
  steps: u32,
  width: u32,
  bytes: u32,      // of an element of source: 1, 4, 8; 64-bit integers count by their low word
  sign_at: u32,    // the byte of an element where the word with its sign begins, or all ones: it has none
  source_at: u32,  // in bytes
  target_at: u32,  // in words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<u32>;   // (rows, steps)
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;

fn number(i: u32) -> u32 {
  let byte = params.source_at + i * params.bytes;
  let word = source[byte >> 2u];
  return select(word, (word >> ((byte & 3u) * 8u)) & 0xffu, params.bytes == 1u);
}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = (workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z)) * {{ block[0] }}u + thread;
  if (i >= params.count) {
    return;
  }
  var negative = false;
  if (params.sign_at != 0xffffffffu) {
    let word = (params.source_at + i * params.bytes + params.sign_at) >> 2u;
    negative = (source[word] >> 31u) != 0u;
  }
  var mask = 0u;
  if (!negative) {
    let own = number(i);
    let t = i % params.steps;
    for (var distance = 0u; distance < params.width; distance++) {
      let same = number(i - min(distance, t)) == own;
      mask |= select(0u, 1u << distance, same);
    }
  }
  target_words[params.target_at + i] = mask;
}
