// Cross entropy, all tokens: the sum of their losses, or its mean over those that are not ignored; and what each
// of them is multiplied with for that.
//
// One workgroup, whose invocation t takes tokens t, t + {{ block[0] }}, ... in that order, so that equal calls give equal
// bits. Reads 8 bytes per token, next to the logits' thousands. Workgroup memory: sums and counts, {{ 8 * block[0] }} bytes.

struct Params {
  tokens: u32,
  is_mean: u32,
  has_losses: u32,  // 1: their sum is written, else the factor
  loss_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

var<workgroup> sums: array<f32, {{ block[0] }}>;
var<workgroup> counts: array<u32, {{ block[0] }}>;

@compute @workgroup_size({{ block[0] }})
fn {{ entry_name }}(
  @builtin(local_invocation_index) thread: u32,
) {
  var sum = 0.0;
  var count = 0u;
  for (var token = thread; token < params.tokens; token += {{ block[0] }}u) {
    if (params.has_losses != 0u) {
      sum += losses[token];
    }
    count += select(1u, 0u, columns[token] == 0xffffffffu);
  }
  sums[thread] = sum;
  counts[thread] = count;
  for (var apart = {{ block[0] // 2 }}u; apart > 0u; apart >>= 1u) {
    workgroupBarrier();
    if (thread < apart) {
      sums[thread] += sums[thread + apart];
      counts[thread] += counts[thread + apart];
    }
  }
  if (thread == 0u) {
    // The mean of nothing is 0.
    let tokens = select(1.0, f32(max(counts[0], 1u)), params.is_mean != 0u);
    loss[params.loss_at] = select(1.0, sums[0], params.has_losses != 0u) / tokens;
  }
}
