// A lane has a row: sum of squares, then the row again, scaled.
@compute @workgroup_size(32)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = linear_workgroup(id, count) * 32u + lane;
  if (row >= params.rows) {
    return;
  }
  let width = params.width / span;
  let first = row * width;
  var sum = 0.0;
  for (var c = 0u; c < width; c++) {
    let v = x[first + c];
    sum = fold(sum, v * v);
  }
  let factor = 1.0 / sqrt(sum / f32(params.width) + params.eps);
  inverse[row] = factor;
  for (var c = 0u; c < width; c++) {
    y[first + c] = x[first + c] * factor * gain[c];
  }
}
