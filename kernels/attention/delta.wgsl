// A lane has one head of one row.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_workgroup(id, count) * 64u + lane;
  if (i >= params.rows * params.heads) {
    return;
  }
  let width = params.headDim / span;
  let first = i * width;
  var sum = 0.0;
  for (var c = 0u; c < width; c++) {
    sum = fold(sum, out[first + c] * dout[first + c]);
  }
  delta[i] = sum;
}
