// Eight lanes a token, a workgroup for eight tokens and at most 128 columns (of one or four words). A lane keeps four sums, so
// that weights and positions are read once for four columns. Rows are added in order of rank, then the residual.

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
    // Columns beyond the last are computed twice and written once.
    let column1 = min(column + 8u, last);
    let column2 = min(column + 16u, last);
    let column3 = min(column + 24u, last);
    // Explicit zeros: naga (wgpu 25) forgets that a variable declared in a loop starts at zero each time round.
    var sum0 = Element();
    var sum1 = Element();
    var sum2 = Element();
    var sum3 = Element();
    for (var rank = 0u; rank < params.chosen; rank++) {
      let a = row * params.chosen + rank;
      let weight = weights[a];
      let from_row = position[a] * columns;
      sum0 += weight * rows[from_row + column];
      sum1 += weight * rows[from_row + column1];
      sum2 += weight * rows[from_row + column2];
      sum3 += weight * rows[from_row + column3];
    }
    let to_row = row * columns;
    y[to_row + column] = residual[to_row + column] + sum0;
    if (column + 8u < columns) {
      y[to_row + column1] = residual[to_row + column1] + sum1;
    }
    if (column + 16u < columns) {
      y[to_row + column2] = residual[to_row + column2] + sum2;
    }
    if (column + 24u < columns) {
      y[to_row + column3] = residual[to_row + column3] + sum3;
    }
  }
}
