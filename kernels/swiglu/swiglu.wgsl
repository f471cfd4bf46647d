// Eight lanes a row, a workgroup for eight rows: no integer divisions, which are slow where a CPU plays the GPU, and neighbouring
// lanes read neighbouring elements.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let width = params.width / span;
  let begin = offsets[params.first];
  let end = min(offsets[params.first + params.groups], begin + params.rows);
  let row = begin + linear_workgroup(id, count) * 8u + lane / 8u;
  if (row >= end) {
    return;
  }
  let gates = row * 2u * width;
  let ups = gates + width;
  let to = row * width;
  for (var column = lane % 8u; column < width; column += 8u) {
    let gate = gu[gates + column];
    y[to + column] = gate / (Element(1.0) + exp(-gate)) * gu[ups + column];
  }
}
