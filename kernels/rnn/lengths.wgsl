// Recurrent cells: the steps of each row, of any integer type, as the nearest number within 0 and T.
//
// One invocation per row; bound by latency.

struct Params {
  count: u32,
  steps: u32,
  bytes: u32,      // of an element of source: 1, 4, 8
  is_signed: u32,
  source_at: u32,  // in bytes
  stride: u32,     // in bytes
  target_at: u32,  // in words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;

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
  let byte = params.source_at + i * params.stride;
  var value = source[byte >> 2u];
  if (params.bytes == 1u) {
    value = (value >> ((byte & 3u) * 8u)) & 0xffu;
  }
  var top = value;
  if (params.bytes == 8u) {
    top = source[(byte >> 2u) + 1u];
    // What does not fit in a word is more than any T.
    value = select(value, 0xffffffffu, top != 0u);
  }
  let negative = params.is_signed != 0u && (top >> 31u) != 0u;
  target_words[params.target_at + i] = select(min(value, params.steps), 0u, negative);
}
