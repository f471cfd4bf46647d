// A lane takes four neighbouring elements: one division finds its place, the rest is counting.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let width = params.width / span;
  let item = (linear_workgroup(id, count) * 64u + lane) * 4u;
  let begin = offsets[params.first];
  let end = offsets[params.first + params.groups];
  let rows = min(end - begin, params.rows);
  if (item >= rows * width) {
    return;
  }
  let items = min(item + 4u, rows * width) - item;
  var row = begin + item / width;
  var column = item % width;
  for (var i = 0u; i < items; i++) {
    let gate = gu[row * 2u * width + column];
    let up = gu[row * 2u * width + width + column];
    y[row * width + column] = gate / (Element(1.0) + exp(-gate)) * up;
    column++;
    if (column == width) {
      column = 0u;
      row++;
    }
  }
}
