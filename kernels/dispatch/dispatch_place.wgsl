// One workgroup a slot. Each lane owns a span of consecutive assignments: it counts those of the slot's expert, learns from
// the lanes before it where its first one goes, and places them in order. So the sort is stable and needs no atomics.

var<workgroup> wanted: u32;
var<workgroup> before: array<u32, 64>;
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
  var lower = 0u;
  for (var s = lane; s < slot; s += 64u) {
    lower += counts[s];
  }
  before[lane] = lower;
  workgroupBarrier();
  let expert = wanted;
  let span = (params.assignments + 63u) / 64u;
  let start = min(lane * span, params.assignments);
  let end = min(start + span, params.assignments);
  var tally = 0u;
  for (var a = start; a < end; a++) {
    tally += select(0u, 1u, experts[a] == expert);
  }
  tallies[lane] = tally;
  workgroupBarrier();
  var first = 0u;
  for (var l = 0u; l < 64u; l++) {
    first += before[l];
  }
  if (lane == 0u) {
    offsets[slot] = first;
    if (slot == params.experts - 1u) {
      offsets[params.experts] = first + counts[slot];
    }
  }
  var place = first;
  for (var l = 0u; l < lane; l++) {
    place += tallies[l];
  }
  for (var a = start; a < end; a++) {
    if (experts[a] == expert) {
      position[a] = place;
      source[place] = a;
      place++;
    }
  }
}
