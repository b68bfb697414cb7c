{%- import "common/element.wgsl" as elements -%}
// Parameters that came as {{ element }}, as f32: target[i] = source[i]. One invocation per element;
// moves 6 bytes of each and is bound by that.

struct Params {
  count: u32,
  source_at: u32,
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
  if (i < params.count) {
    target_words[params.target_at + i] = bitcast<u32>(load_source(i + params.source_at));
  }
}
