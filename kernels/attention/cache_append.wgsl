// A lane copies one element of a key and the same of its value.
@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let i = linear_workgroup(id, count) * 64u + lane;
  let width = params.kvHeads * params.headDim / span;
  let row = i / width;
  if (row >= params.rows) {
    return;
  }
  let key = (row + 1u) * (params.heads * params.headDim / span) + row * width + i;
  let to = params.start * width + i;
  keys[to] = qkv[key];
  values[to] = qkv[key + width];
}
