// One lane for each element (or four) of the result; the rows that belong to it are added in order of rank.

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let columns = params.width / span;
  let index = linear_workgroup(group, groups) * 64u + lane;
  let row = index / columns;
  if (row >= params.rows) {
    return;
  }
  let column = index % columns;
  var sum: Element;
  for (var rank = 0u; rank < params.chosen; rank++) {
    sum += drows[position[row * params.chosen + rank] * columns + column];
  }
  if (params.accumulate != 0u) {
    sum = dx[index] + sum;
  }
  dx[index] = sum;
}
