// A workgroup takes `tile` experts. Rows go by in chunks of 256: first each lane finds the softmax's maximum and sum of one
// row, then 256 / tile lanes for each expert add up its probabilities, each over its own rows. The last fold goes in order
// of lanes, so the sum is a fixed function of the shape.

var<workgroup> largest: array<f32, 256>;
var<workgroup> inverse: array<f32, 256>;
var<workgroup> sums: array<f32, 256>;
var<workgroup> squares: array<f32, 256>;
var<workgroup> tallies: array<atomic<u32>, 256>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let count = params.experts;
  var tile = 8u;
  while (tile < 256u && tile < count) {
    tile *= 2u;
  }
  let first = linear_workgroup(group, groups) * tile;
  if (first >= count) {
    return;
  }
  let expert = first + lane % tile;
  let slice = lane / tile;
  let slices = 256u / tile;
  var probability = 0.0;
  var square = 0.0;
  for (var start = 0u; start < params.rows; start += 256u) {
    let row = start + lane;
    if (row < params.rows) {
      var high = logits[row * count];
      for (var e = 1u; e < count; e++) {
        high = max(high, logits[row * count + e]);
      }
      var sum = 0.0;
      for (var e = 0u; e < count; e++) {
        sum += exp(logits[row * count + e] - high);
      }
      largest[lane] = high;
      inverse[lane] = 1.0 / sum;
      let z = high + log(sum);
      square += z * z;
    }
    workgroupBarrier();
    if (expert < count) {
      let end = min(256u, params.rows - start);
      for (var i = slice; i < end; i += slices) {
        probability += exp(logits[(start + i) * count + expert] - largest[i]) * inverse[i];
      }
    }
    workgroupBarrier();
  }
  // Whole numbers may be counted in any order.
  let assignments = params.rows * params.chosen;
  for (var a = lane; a < assignments; a += 256u) {
    let place = experts[a] - first;
    if (place < tile) {
      atomicAdd(&tallies[place], 1u);
    }
  }
  sums[lane] = probability;
  squares[lane] = square;
  workgroupBarrier();
  if (lane < tile && expert < count) {
    var mean = 0.0;
    for (var s = 0u; s < slices; s++) {
      mean += sums[s * tile + lane];
    }
    stats[expert] = f32(atomicLoad(&tallies[lane])) / f32(assignments);
    stats[count + expert] = mean / f32(params.rows);
  }
  if (first == 0u && lane == 0u) {
    var total = 0.0;
    for (var l = 0u; l < 256u; l++) {
      total += squares[l];
    }
    stats[2u * count] = total / f32(params.rows);
  }
}
