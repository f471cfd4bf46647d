// A lane has a row. One pass keeps the largest logit so far and the sum of exponentials relative to it; a second pass, where the
// gradient is asked for, overwrites the row.
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
  var sums = Element(0.0);
  for (var c = 0u; c < vocab; c++) {
    let v = logits[first + c];
    let next = max(top, largest(v));
    if (next > top) {
      sums *= exp(top - next);
      top = next;
    }
    sums += exp(v - top);
  }
  let sum = total(sums);
  loss[row] = log(sum) + (top - pick(first, label));
  if (params.gradient != 0u) {
    let factor = scale[0];
    let share = factor / sum;
    for (var c = 0u; c < vocab; c++) {
      logits[first + c] = exp(logits[first + c] - top) * share - factor * hit(c, label);
    }
  }
}
