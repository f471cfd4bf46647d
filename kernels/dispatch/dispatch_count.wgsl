// At most 32 workgroups, each for `tile` slots; lanes stride over the assignments. Whole numbers may be counted in any order.

var<workgroup> tallies: array<atomic<u32>, 32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let tile = max(8u, (params.experts + 31u) / 32u);
  let first = linear_workgroup(group, groups) * tile;
  for (var a = lane; a < params.assignments; a += 64u) {
    let place = slotOf[experts[a]] - first;
    if (place < tile) {
      atomicAdd(&tallies[place], 1u);
    }
  }
  workgroupBarrier();
  if (lane < tile && first + lane < params.experts) {
    counts[first + lane] = atomicLoad(&tallies[lane]);
  }
}
