// A lane has span neighbouring pairs of one row and goes through the heads, so that it loads their angles once.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_workgroup(id, count) * 64u + lane;
  let half = params.headDim / (2u * span);
  let row = i / half;
  if (row >= params.rows) {
    return;
  }
  let pair = i - row * half;
  let angle = (params.start + row % params.seq) * 2u * half + pair;
  let cosine = table[angle];
  var sine = table[angle + half];
  if (params.inverse != 0u) {
    sine = -sine;
  }
  var at = row * (params.stride / span) + pair;
  for (var h = 0u; h < params.heads; h++) {
    let a = x[at];
    let b = x[at + half];
    x[at] = a * cosine - b * sine;
    x[at + half] = b * cosine + a * sine;
    at += 2u * half;
  }
}
