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
  var sums = Element(0.0);
  for (var c = 0u; c < width; c++) {
    sums += out[first + c] * dout[first + c];
  }
  delta[i] = total(sums);
}
