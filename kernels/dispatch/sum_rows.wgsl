// Tiled as `combine` is: eight lanes a token, four sums a lane. Rows are added in order of rank.

fn store(at: u32, sum: Element) {
  if (params.accumulate != 0u) {
    dx[at] = dx[at] + sum;
  } else {
    dx[at] = sum;
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let columns = params.width / span;
  let blocks = (columns + 127u) / 128u;
  let tile = linear_workgroup(group, groups);
  let row = (tile / blocks) * 8u + lane / 8u;
  if (row >= params.rows) {
    return;
  }
  let first = (tile % blocks) * 128u;
  let last = columns - 1u;
  for (var column = first + lane % 8u; column < min(first + 128u, columns); column += 32u) {
    let column1 = min(column + 8u, last);
    let column2 = min(column + 16u, last);
    let column3 = min(column + 24u, last);
    var sum0 = Element();
    var sum1 = Element();
    var sum2 = Element();
    var sum3 = Element();
    for (var rank = 0u; rank < params.chosen; rank++) {
      let from_row = position[row * params.chosen + rank] * columns;
      sum0 += drows[from_row + column];
      sum1 += drows[from_row + column1];
      sum2 += drows[from_row + column2];
      sum3 += drows[from_row + column3];
    }
    let to_row = row * columns;
    store(to_row + column, sum0);
    if (column + 8u < columns) {
      store(to_row + column1, sum1);
    }
    if (column + 16u < columns) {
      store(to_row + column2, sum2);
    }
    if (column + 24u < columns) {
      store(to_row + column3, sum3);
    }
  }
}
