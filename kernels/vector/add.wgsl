// Each lane adds four neighbouring elements, so that its index is computed once for four.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = (linear_workgroup(id, count) * 64u + lane) * 4u;
  let end = min(first + 4u, params.length / span);
  for (var i = first; i < end; i++) {
    y[i] += x[i];
  }
}
