// One lane a token: softmax over all experts for the two losses, then the Jacobian of the softmax over the chosen.

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = linear_workgroup(group, groups) * 64u + lane;
  if (row >= params.rows) {
    return;
  }
  let count = params.experts;
  let base = row * count;
  var high = logits[base];
  for (var e = 1u; e < count; e++) {
    high = max(high, logits[base + e]);
  }
  var sum = 0.0;
  var shared_load = 0.0;
  for (var e = 0u; e < count; e++) {
    let value = exp(logits[base + e] - high);
    sum += value;
    shared_load += stats[e] * value;
  }
  shared_load /= sum;
  let balance = params.balance * f32(count) / f32(params.rows);
  let z = params.z * 2.0 * (high + log(sum)) / f32(params.rows);
  for (var e = 0u; e < count; e++) {
    let probability = exp(logits[base + e] - high) / sum;
    dlogits[base + e] = probability * (balance * (stats[e] - shared_load) + z);
  }
  let first = row * params.chosen;
  var mean = 0.0;
  for (var rank = 0u; rank < params.chosen; rank++) {
    mean += weights[first + rank] * dweights[first + rank];
  }
  for (var rank = 0u; rank < params.chosen; rank++) {
    let expert = min(experts[first + rank], count - 1u);
    dlogits[base + expert] += weights[first + rank] * (dweights[first + rank] - mean);
  }
}
