// Eight lanes an assignment. Each goes over every eighth element (or four), writes the weighted gradient of the expert's row
// and adds up its part of the weight's gradient; the eight parts are folded in order of lanes.

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let columns = params.width / span;
  let a = linear_workgroup(group, groups) * 8u + lane / 8u;
  let inside = a < params.rows * params.chosen;
  var sum = Element();
  if (inside) {
    let from_row = (a / params.chosen) * columns;
    let to_row = position[a] * columns;
    let weight = weights[a];
    for (var column = lane % 8u; column < columns; column += 8u) {
      let gradient = dy[from_row + column];
      sum += gradient * rows[to_row + column];
      drows[to_row + column] = weight * gradient;
    }
  }
  parts[lane] = total(sum);
  workgroupBarrier();
  if (inside && lane % 8u == 0u) {
    var all = 0.0;
    for (var l = 0u; l < 8u; l++) {
      all += parts[lane + l];
    }
    dweights[a] = all;
  }
}
