// Eight lanes a row, a workgroup for eight rows and at most 128 columns (of one or four words): few integer divisions, which
// are slow where a CPU plays the GPU.

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let columns = (params.width + span - 1u) / span;
  let blocks = (columns + 127u) / 128u;
  let tile = linear_workgroup(group, groups);
  let row = (tile / blocks) * 8u + lane / 8u;
  if (row >= params.rows * params.chosen) {
    return;
  }
  let first = (tile % blocks) * 128u;
  let from_row = (source[row] / params.chosen) * columns;
  let to_row = row * columns;
  for (var column = first + lane % 8u; column < min(first + 128u, columns); column += 8u) {
    y[to_row + column] = x[from_row + column];
  }
}
