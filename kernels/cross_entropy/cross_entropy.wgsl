// A lane has a row: the largest logit, the sum of exponentials relative to it, and where the gradient is asked for a third pass
// that overwrites the row.
@compute @workgroup_size(32)
fn main(
  @builtin(workgroup_id) id: vec3u,
  @builtin(num_workgroups) count: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let row = linear_workgroup(id, count) * 32u + lane;
  if (row >= params.rows) {
    return;
  }
  let vocab = params.vocab / span;
  let first = row * vocab;
  let label = labels[row];
  if (label == 0xffffffffu) {
    loss[row] = 0.0;
    if (params.gradient != 0u) {
      for (var c = 0u; c < vocab; c++) {
        logits[first + c] = Element(0.0);
      }
    }
    return;
  }
  var top = largest(logits[first]);
  for (var c = 1u; c < vocab; c++) {
    top = max(top, largest(logits[first + c]));
  }
  var sum = 0.0;
  for (var c = 0u; c < vocab; c++) {
    sum = fold(sum, exp(logits[first + c] - top));
  }
  loss[row] = log(sum) + (top - pick(first, label));
  if (params.gradient != 0u) {
    let factor = scale[0];
    let share = factor / sum;
    for (var c = 0u; c < vocab; c++) {
      logits[first + c] = exp(logits[first + c] - top) * share - factor * hit(c, label);
    }
  }
}
