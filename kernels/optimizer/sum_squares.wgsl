// One workgroup a chunk. Lane l owns the chunk's quadruples l, l + 64, ...; what is added to what depends on the place inside
// the chunk alone. `quadruple` (put in front) reads four words, zeros beyond the chunk's end.

var<workgroup> sums: array<f32, 64>;
var<workgroup> flags: array<u32, 64>;

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
  var sum = vec4f();
  var found = vec4<bool>();
  for (var word = 4u * lane; word < length; word += 256u) {
    let values = quadruple(start, word, length);
    sum += values * values;
    // All exponent bits set: infinite or not a number. Comparisons of floats may be assumed away, those of bits not.
    found = found | ((bitcast<vec4u>(values) & vec4u(0x7f800000u)) == vec4u(0x7f800000u));
  }
  sums[lane] = (sum.x + sum.y) + (sum.z + sum.w);
  flags[lane] = select(0u, 1u, any(found));
  workgroupBarrier();
  if (lane % 8u == 0u) {
    var eighth = sums[lane];
    var flag = flags[lane];
    for (var l = 1u; l < 8u; l++) {
      eighth += sums[lane + l];
      flag |= flags[lane + l];
    }
    sums[lane] = eighth;
    flags[lane] = flag;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var all = sums[0];
    var flag = flags[0];
    for (var l = 8u; l < 64u; l += 8u) {
      all += sums[l];
      flag |= flags[l];
    }
    partials[2u * chunk] = select(all, 0.0, flag != 0u);
    partials[2u * chunk + 1u] = f32(flag);
  }
}
