// A lane owns span neighbouring columns and walks down the rows in order.
@compute @workgroup_size(32)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let column = linear_workgroup(id, count) * 32u + lane;
  let width = params.width / span;
  if (column >= width) {
    return;
  }
  var at = column;
  var sum = Element(0.0);
  for (var r = 0u; r < params.rows; r++) {
    sum += dy[at] * x[at] * inverse[r];
    at += width;
  }
  if (params.accumulate != 0u) {
    sum = dgain[column] + sum;
  }
  dgain[column] = sum;
}
