// One workgroup a segment. A chunk's 64 sums are added eight by eight, then the eight sums. Lane l adds up chunks l, l + 64, ... in runs of eight, so that no chain of additions is long; then
// eights of lanes, then the eight sums.

var<workgroup> sums: array<f32, 64>;
var<workgroup> found: array<u32, 64>;

struct Chunk { sum: f32, flag: u32 }

// The sum of a chunk, and whether one of its lanes saw a value that is not finite.
fn fold_chunk(chunk: u32) -> Chunk {
  var all = 0.0;
  var least = vec4f();
  for (var at = 16u * chunk; at < 16u * chunk + 16u; at += 2u) {
    let a = partials[at];
    let b = partials[at + 1u];
    all += ((((((a.x + a.y) + a.z) + a.w) + b.x) + b.y) + b.z) + b.w;
    least = min(least, min(a, b));
  }
  return Chunk(all, select(0u, 1u, any(least < vec4f())));
}

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
      let chunk = fold_chunk(first + c);
      run += chunk.sum;
      flag |= chunk.flag;
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
