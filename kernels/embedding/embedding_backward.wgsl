// A lane owns span neighbouring columns of one table row and adds the rows of dy in order.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let width = params.width / span;
  let i = linear_workgroup(id, count) * 64u + lane;
  let u = i / width;
  if (u >= params.unique) {
    return;
  }
  let column = i - u * width;
  let end = starts[u + 1u];
  var sum = Element(0.0);
  for (var at = starts[u]; at < end; at++) {
    sum += dy[order[at] * width + column];
  }
  let to = tokens[u] * width + column;
  dtable[to] = dtable[to] + sum;
}
