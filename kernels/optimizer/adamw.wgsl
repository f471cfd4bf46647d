// One lane takes four elements, 64 apart, so that neighbouring lanes read neighbouring words. They are written out: loops cost
// more than loads where a CPU plays the GPU. Elements beyond the last are computed like it and not stored.

fn update(i: u32, count: u32) {
  let at = min(i, count - 1u);
  let beta1 = scalars[1];
  let beta2 = scalars[2];
  let gradient = g[at] * scalars[6];
  let first = beta1 * m[at] + (1.0 - beta1) * gradient;
  let second = beta2 * v[at] + (1.0 - beta2) * gradient * gradient;
  let change = (first / scalars[4]) / (sqrt(second / scalars[5]) + Element(scalars[3]));
  let weight = w[at] - scalars[0] * (change + params.decay * w[at]);
  if (i < count) {
    m[at] = first;
    v[at] = second;
    w[at] = weight;
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let count = params.length / span;
  let start = linear_workgroup(group, groups) * 256u + lane;
  update(start, count);
  update(start + 64u, count);
  update(start + 128u, count);
  update(start + 192u, count);
}
