// A lane copies four neighbouring elements: one division finds its place, the rest is counting.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let width = params.width / span;
  let item = (linear_workgroup(id, count) * 64u + lane) * 4u;
  let end = min(item + 4u, params.rows * width);
  if (item >= end) {
    return;
  }
  var row = item / width;
  var column = item % width;
  var source = ids[row] * width;
  for (var i = item; i < end; i++) {
    y[i] = table[source + column];
    column++;
    if (column == width) {
      column = 0u;
      row++;
      source = ids[min(row, params.rows - 1u)] * width;
    }
  }
}
