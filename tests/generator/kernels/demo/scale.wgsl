// y[i] = scale * x[i]
struct Params {
  count: u32,
  scale: f32,
  offset: vec2<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> tile: array<f32, {{ block[0] }}>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(@builtin(local_invocation_index) lane: u32) {
  tile[lane] = 0.0;
  if lane < params.count {
    tile[lane] = x[params.offset.x + lane] * params.scale;
  }
  workgroupBarrier();
  if lane < params.count {
    y[params.offset.y + lane] = tile[lane];
  }
}
