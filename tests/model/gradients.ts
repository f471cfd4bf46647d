/** Gradients of a loaded model beside central differences of a loss in float64. */
import { assertAlmostEquals } from "@std/assert";
import type { LoadedModel } from "../../model/layers/local_model.ts";
import type { ModelConfig } from "../../model/config.ts";
import { parameterTable } from "../../model/tensors.ts";

/**
 * Three elements of every parameter, after the model's gradients were taken; `lossOf` is the loss with given weights.
 * Answers with the largest gradient of each parameter.
 */
export async function assertGradients(
  { parameters }: Pick<LoadedModel, "parameters">,
  config: ModelConfig,
  weights: ReadonlyMap<string, ArrayLike<number>>,
  lossOf: (weights: Map<string, ArrayLike<number>>) => number,
): Promise<Map<string, number>> {
  const point = new Map(weights), largest = new Map<string, number>();
  for (const { name } of parameterTable(config)) {
    const gradient = await parameters.get(name, "gradient");
    const most = gradient.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    largest.set(name, most);
    for (const part of [0.1, 0.5, 0.9]) {
      const at = Math.floor(part * gradient.length), step = 1e-5;
      const [above, below] = [step, -step].map((by) => {
        const moved = Float64Array.from(weights.get(name)!);
        moved[at] += by;
        const loss = lossOf(point.set(name, moved));
        point.set(name, weights.get(name)!);
        return loss;
      });
      const numeric = (above - below) / (2 * step);
      assertAlmostEquals(gradient[at], numeric, 1e-5 * most + 1e-7, `${name} ${at}`);
    }
  }
  return largest;
}
