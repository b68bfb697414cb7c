{%- import "common/element.wgsl" as elements -%}
// Recurrent cells: a strided tensor of four axes, of {{ element }}, laid down without gaps in f32, in the order of
// its axes as they are given; 0 for indices of the last axis from `there` on.
//
// One invocation per element of the target. Moves {{ 8 if element == "f32" else 6 }} bytes of each and is bound by that.

struct Params {
  count: u32,        // elements of the target
  size_1: u32,       // lengths of the last three axes
  size_2: u32,
  size_3: u32,
  there: u32,        // indices of the last axis that the source has
  // Elements of the source.
  source_at: u32,
  stride_0: u32,
  stride_1: u32,
  stride_2: u32,
  stride_3: u32,
  target_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> source: array<u32>;
@group(0) @binding(2) var<storage, read_write> target_words: array<u32>;
{{ elements.load(element, "source") }}

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
  let last = i % params.size_3;
  let rest = i / params.size_3;
  let second = rest % params.size_2;
  let line = rest / params.size_2;
  let place = params.source_at + line / params.size_1 * params.stride_0 + line % params.size_1 * params.stride_1
    + second * params.stride_2 + last * params.stride_3;
  var value = 0.0;
  if (last < params.there) {
    value = load_source(place);
  }
  target_words[params.target_at + i] = bitcast<u32>(value);
}
