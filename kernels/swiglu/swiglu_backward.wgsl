// Tiled as the forward program is: eight lanes a row.
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
  let narrow = row * width;
  for (var column = lane % 8u; column < width; column += 8u) {
    let gate = gu[gates + column];
    let d = dy[narrow + column];
    let s = Element(1.0) / (Element(1.0) + exp(-gate));
    dgu[gates + column] = d * gu[ups + column] * s * (Element(1.0) + gate * (Element(1.0) - s));
    dgu[ups + column] = d * gate * s;
  }
}
