// Turns targets into columns: a target where it is one of the vocabulary's and is not ignored, else all ones.
//
// One invocation per token. Moves the target and 4 bytes per token, and is bound by that.

struct Params {
  count: u32,
  // The target that is ignored, as all are taken, with a sign.
  ignored_low: u32,
  ignored_high: u32,
  is_wide: u32,      // 1: targets have 8 bytes, else 4
  is_signed: u32,
  vocabulary: u32,
  targets_at: u32,   // words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;

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
  var low = 0u;
  var high = 0u;
  if (params.is_wide != 0u) {
    low = targets[params.targets_at + 2u * i];
    high = targets[params.targets_at + 2u * i + 1u];
  } else {
    low = targets[params.targets_at + i];
    high = select(0u, 0xffffffffu, params.is_signed != 0u && (low >> 31u) != 0u);
  }
  let ignored = low == params.ignored_low && high == params.ignored_high;
  columns[i] = select(0xffffffffu, low, high == 0u && low < params.vocabulary && !ignored);
}
