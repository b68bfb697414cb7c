{%- import "common/activation.wgsl" as activation -%}
{%- import "cross_entropy/rows.wgsl" as rows -%}
// Cross entropy, the end of a token: what parts of its columns tell is merged in their order, and becomes the
// same of all of them, or lse and loss.
//
//   M = max m,  S = sum of s exp(m - M),  lse = M + log S
//   loss = lse - (1 - smoothing) z_target - smoothing / V sum z + z_loss lse^2;  0 for an ignored token
//
// One invocation per token. Reads 16 bytes per part, and is bound by that.

struct Params {
  tokens: u32,
  parts: u32,
  merges: u32,         // 1: (tokens, 4) to `result`, else lse and losses
  statistics_at: u32,  // (parts, tokens, 4)
  result_at: u32,      // what is told, or lse
  losses_at: u32,
  smoothing: f32,
  share: f32,          // smoothing / V
  z_loss: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<u32>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;
{{ activation.exp_accurate() }}
{{ rows.told() }}

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let id = workgroup.x + grid.x * (workgroup.y + grid.y * workgroup.z);
  let token = id * {{ block[0] }}u + thread;
  if (token >= params.tokens) {
    return;
  }
  var told = Told(LEAST, 0.0, 0.0, 0.0);
  for (var part = 0u; part < params.parts; part++) {
    let at = params.statistics_at + 4u * (part * params.tokens + token);
    told = merged(told, Told(statistics[at], statistics[at + 1u], statistics[at + 2u], statistics[at + 3u]));
  }
  if (params.merges != 0u) {
    let to = params.result_at + 4u * token;
    result[to] = bitcast<u32>(told.m);
    result[to + 1u] = bitcast<u32>(told.s);
    result[to + 2u] = bitcast<u32>(told.at_target);
    result[to + 3u] = bitcast<u32>(told.sum);
    return;
  }
  let lse = told.m + log(max(told.s, 1e-37));
  // The logarithm of nothing is -inf, whose bits are stored.
  result[params.result_at + token] = select(bitcast<u32>(lse), 0xff800000u, told.s == 0.0);
  var loss = lse - (1.0 - params.smoothing) * told.at_target;
  if (params.smoothing > 0.0) {
    loss -= params.share * told.sum;
  }
  if (params.z_loss > 0.0) {
    loss += params.z_loss * lse * lse;
  }
  losses[params.losses_at + token] = select(loss, 0.0, columns[token] == 0xffffffffu);
}
