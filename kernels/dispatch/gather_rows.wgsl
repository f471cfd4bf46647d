// One lane for each element (or four) of the result.

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let columns = params.width / span;
  let index = linear_workgroup(group, groups) * 64u + lane;
  let row = index / columns;
  if (row >= params.rows * params.chosen) {
    return;
  }
  y[index] = x[(source[row] / params.chosen) * columns + index % columns];
}
