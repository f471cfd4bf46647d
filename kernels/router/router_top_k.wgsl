// One lane a token. The k largest so far stay sorted in registers; a logit enters in front of the first smaller one, so
// that of equal logits the one with the lower index ranks first. Every choice is a valid and distinct expert even where
// logits are not numbers.

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = linear_workgroup(group, groups) * 64u + lane;
  if (row >= params.rows) {
    return;
  }
  var best: array<f32, 16>;
  var index: array<u32, 16>;
  let base = row * params.experts;
  for (var expert = 0u; expert < params.experts; expert++) {
    let value = logits[base + expert];
    var place = min(expert, params.chosen);
    while (place > 0u) {
      if (!(value > best[place - 1u])) {
        break;
      }
      if (place < params.chosen) {
        best[place] = best[place - 1u];
        index[place] = index[place - 1u];
      }
      place--;
    }
    if (place < params.chosen) {
      best[place] = value;
      index[place] = expert;
    }
  }
  var sum = 0.0;
  let largest = best[0];
  for (var rank = 0u; rank < params.chosen; rank++) {
    best[rank] = exp(best[rank] - largest);
    sum += best[rank];
  }
  for (var rank = 0u; rank < params.chosen; rank++) {
    weights[row * params.chosen + rank] = best[rank] / sum;
    experts[row * params.chosen + rank] = index[rank];
  }
}
