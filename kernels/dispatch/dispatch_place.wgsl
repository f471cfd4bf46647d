// At most 32 workgroups, each for `tile` slots. Each lane owns a span of consecutive assignments: it counts those of each slot,
// learns from the lanes before it where its first one goes, and places them in order. So the sort is stable, and nothing
// depends on the order in which lanes run.

var<workgroup> before: array<u32, 64>;
// For each slot of the tile and each lane: first a count, then the next free row.
var<workgroup> next: array<u32, 2048>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = max(8u, (params.experts + 31u) / 32u);
  let first = linear_workgroup(group, groups) * tile;
  var lower = 0u;
  for (var slot = lane; slot < min(first, params.experts); slot += 64u) {
    lower += counts[slot];
  }
  before[lane] = lower;
  let span = (params.assignments + 63u) / 64u;
  let start = min(lane * span, params.assignments);
  let end = min(start + span, params.assignments);
  for (var a = start; a < end; a++) {
    let place = slotOf[experts[a]] - first;
    if (place < tile) {
      next[place * 64u + lane]++;
    }
  }
  workgroupBarrier();
  let slot = first + lane;
  if (lane < tile && slot < params.experts) {
    var row = 0u;
    for (var l = 0u; l < 64u; l++) {
      row += before[l];
    }
    for (var s = first; s < slot; s++) {
      row += counts[s];
    }
    offsets[slot] = row;
    if (slot == params.experts - 1u) {
      offsets[params.experts] = row + counts[slot];
    }
    for (var l = 0u; l < 64u; l++) {
      let tally = next[lane * 64u + l];
      next[lane * 64u + l] = row;
      row += tally;
    }
  }
  workgroupBarrier();
  for (var a = start; a < end; a++) {
    let place = slotOf[experts[a]] - first;
    if (place < tile) {
      let row = next[place * 64u + lane];
      next[place * 64u + lane] = row + 1u;
      position[a] = row;
      source[row] = a;
    }
  }
}
