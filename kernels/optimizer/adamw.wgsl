// One lane takes four elements, 64 apart, so that neighbouring lanes read neighbouring words.

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let rate = scalars[0];
  let beta1 = scalars[1];
  let beta2 = scalars[2];
  let epsilon = scalars[3];
  let correction1 = scalars[4];
  let correction2 = scalars[5];
  let clip = scalars[6];
  let count = params.length / span;
  let start = linear_workgroup(group, groups) * 256u + lane;
  for (var i = start; i < min(start + 256u, count); i += 64u) {
    let gradient = g[i] * clip;
    let first = beta1 * m[i] + (1.0 - beta1) * gradient;
    let second = beta2 * v[i] + (1.0 - beta2) * gradient * gradient;
    m[i] = first;
    v[i] = second;
    let update = (first / correction1) / (sqrt(second / correction2) + Element(epsilon));
    w[i] = w[i] - rate * (update + params.decay * w[i]);
  }
}
