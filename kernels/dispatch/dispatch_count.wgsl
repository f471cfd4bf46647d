// One workgroup a slot: it looks up its expert, then its lanes count that expert's assignments.

var<workgroup> wanted: u32;
var<workgroup> tallies: array<u32, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let slot = linear_workgroup(group, groups);
  if (slot >= params.experts) {
    return;
  }
  for (var e = lane; e < params.experts; e += 64u) {
    if (slotOf[e] == slot) {
      wanted = e;
    }
  }
  workgroupBarrier();
  let expert = wanted;
  var tally = 0u;
  for (var a = lane; a < params.assignments; a += 64u) {
    tally += select(0u, 1u, experts[a] == expert);
  }
  tallies[lane] = tally;
  workgroupBarrier();
  if (lane == 0u) {
    var all = 0u;
    for (var l = 0u; l < 64u; l++) {
      all += tallies[l];
    }
    counts[slot] = all;
  }
}
