// A lane owns span neighbouring columns and walks down the rows in order.
@compute @workgroup_size(32)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let column = linear_workgroup(id, count) * 32u + lane;
  if (column >= params.width / span) {
    return;
  }
  let stride = params.stride / span;
  var at = params.start / span + column;
  var sum = Element(0.0);
  for (var r = 0u; r < params.rows; r++) {
    sum += x[at];
    at += stride;
  }
  if (params.accumulate != 0u) {
    sum = y[column] + sum;
  }
  y[column] = sum;
}
