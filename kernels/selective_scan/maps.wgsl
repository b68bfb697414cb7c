{%- import "common/element.wgsl" as elements -%}
// Selective scan, backward: a variable B or C over one segment of time, in f32 with the states fastest.
//
//   target[b, g, t, n] = source[b, g, n, start + t],  0 for n and t beyond the source
//
// One invocation per (b, g, t, n), neighbours along n, so that the walk reads its states side by side.
// Moves {{ 8 if element == "f32" else 6 }} bytes per number and is bound by that; it is small where many channels share a group.

struct Params {
  count: u32,
  groups: u32,
  length: u32,       // of t
  width: u32,        // of n
  steps: u32,        // of the source
  states: u32,
  start: u32,
  source_at: u32,
  source_batch: u32,
  source_group: u32,
  source_state: u32,
  source_time: u32,
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
  let i = (workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z)) * {{ block[0] }}u + thread;
  if (i >= params.count) {
    return;
  }
  let n = i % params.width;
  let t = i / params.width % params.length;
  let line = i / params.width / params.length;
  var value = 0.0;
  if (n < params.states && params.start + t < params.steps) {
    value = load_source(params.source_at + line / params.groups * params.source_batch
      + line % params.groups * params.source_group + n * params.source_state
      + (params.start + t) * params.source_time);
  }
  target_words[params.target_at + i] = bitcast<u32>(value);
}
