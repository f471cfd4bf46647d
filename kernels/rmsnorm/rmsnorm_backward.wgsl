// A lane has a row: sum of x * gain * dy, then the row again.
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
  let factor = inverse[row];
  var sum = 0.0;
  for (var c = 0u; c < width; c++) {
    sum = fold(sum, x[first + c] * gain[c] * dy[first + c]);
  }
  let back = sum * factor * factor * factor / f32(params.width);
  for (var c = 0u; c < width; c++) {
    var v = factor * gain[c] * dy[first + c] - x[first + c] * back;
    if (params.accumulate != 0u) {
      v = dx[first + c] + v;
    }
    dx[first + c] = v;
  }
}
