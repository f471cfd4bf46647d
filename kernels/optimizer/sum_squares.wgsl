// One workgroup a chunk, one sum a lane. Lane l owns the chunk's quadruples l, l + 64, ...; what is added to what depends on the
// place inside the chunk alone. `quadruple` (put in front) reads four words, zeros beyond the chunk's end.

struct Sum { squares: vec4f, found: vec4<bool> }

fn extended(sum: Sum, values: vec4f) -> Sum {
  // All exponent bits set: infinite or not a number. Comparisons of floats may be assumed away, those of bits not.
  let wrong = (bitcast<vec4u>(values) & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
  return Sum(sum.squares + values * values, sum.found | wrong);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let chunk = linear_workgroup(group, groups);
  if (chunk >= params.chunks) {
    return;
  }
  let start = chunks[2u * chunk];
  let length = chunks[2u * chunk + 1u];
  var sum = Sum(vec4f(), vec4<bool>());
  // Four at a time: loops cost more than loads where a CPU plays the GPU.
  for (var word = 4u * lane; word < length; word += 1024u) {
    sum = extended(sum, quadruple(start, word, length));
    sum = extended(sum, quadruple(start, word + 256u, length));
    sum = extended(sum, quadruple(start, word + 512u, length));
    sum = extended(sum, quadruple(start, word + 768u, length));
  }
  let squares = (sum.squares.x + sum.squares.y) + (sum.squares.z + sum.squares.w);
  partials[64u * chunk + lane] = select(squares, -1.0, any(sum.found));
}
