/**
 * What a worker computes on in a round, after a look at what the coordinator sent.
 *
 * @module
 */
import { NO_LABEL } from "../model/text/data_order.ts";
import type { FromCoordinator } from "../mesh/control/messages.ts";
import type { Slice } from "../mesh/plan.ts";
import { PlanViolationError } from "./errors.ts";
import type { Sizes } from "./sizes.ts";

/** The data of a round as the coordinator says them. */
export type Round = Extract<FromCoordinator, { type: "round" }>;

/** A round's data, checked against the slice. */
export interface Data {
  readonly message: Round;
  /** u32 [own microbatches, batch, sequence], for a worker with the embedding. */
  readonly ids?: Uint32Array<ArrayBuffer>;
  /** The same, for a worker with the head. */
  readonly labels?: Uint32Array<ArrayBuffer>;
}

/** Ids and labels of a round as words. Throws {@linkcode PlanViolationError} where they do not fit the slice. */
export function checkedData(
  { slice, sizes }: { readonly slice: Slice; readonly sizes: Sizes },
  own: { readonly from: number; readonly to: number },
  message: Round,
): Data {
  const { round } = message, count = (own.to - own.from) * sizes.tokens;
  const stages = slice.stages.filter((stage) => stage.worker === slice.self);
  const words = (what: "ids" | "labels", wanted: boolean): Uint32Array<ArrayBuffer> | undefined => {
    const bytes = message[what];
    if (!wanted) return undefined;
    if (bytes?.length !== count * 4) {
      throw new PlanViolationError(
        `Round ${round} came with ${bytes?.length ?? 0} bytes of ${what}: the plan says ${count * 4}`,
      );
    }
    const values = new Uint32Array(bytes.slice().buffer), { vocabSize } = sizes.config;
    const strange = values.find((value) => value >= vocabSize && !(what === "labels" && value === NO_LABEL));
    if (strange !== undefined) {
      throw new PlanViolationError(
        `Round ${round} has ${strange} among its ${what}: the vocabulary has ${vocabSize} entries`,
      );
    }
    return values;
  };
  return {
    message,
    ids: words("ids", stages.some((stage) => stage.embedding)),
    labels: words("labels", stages.some((stage) => stage.head)),
  };
}
