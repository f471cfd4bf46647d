// One workgroup a segment. Lane l adds up chunks l, l + 64, ... in runs of eight, so that no chain of additions is long; then
// eights of lanes, then the eight sums.

var<workgroup> sums: array<f32, 64>;
var<workgroup> found: array<u32, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let segment = linear_workgroup(group, groups);
  if (segment >= params.segments) {
    return;
  }
  let first = segments[2u * segment];
  let count = segments[2u * segment + 1u];
  var sum = 0.0;
  var flag = 0u;
  for (var start = lane; start < count; start += 512u) {
    var run = 0.0;
    for (var c = start; c < min(start + 512u, count); c += 64u) {
      run += partials[2u * (first + c)];
      flag |= select(0u, 1u, partials[2u * (first + c) + 1u] != 0.0);
    }
    sum += run;
  }
  sums[lane] = sum;
  found[lane] = flag;
  workgroupBarrier();
  if (lane % 8u == 0u) {
    for (var l = 1u; l < 8u; l++) {
      sum += sums[lane + l];
      flag |= found[lane + l];
    }
    sums[lane] = sum;
    found[lane] = flag;
  }
  workgroupBarrier();
  if (lane == 0u) {
    for (var l = 8u; l < 64u; l += 8u) {
      sum += sums[l];
      flag |= found[l];
    }
    // Squares of finite values can still overflow.
    if ((bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u) {
      flag = 1u;
    }
    totals[segment] = select(sum, 0.0, flag != 0u);
    flags[segment] = flag;
  }
}
