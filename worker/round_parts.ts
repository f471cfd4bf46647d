/**
 * What the parts of an executor share: everything that a round of one generation works with.
 *
 * @module
 */
import type { FromCoordinator, FromWorker } from "../mesh/control/messages.ts";
import type { Slice, Stage } from "../mesh/plan.ts";
import type { Compute, HeldTensor } from "./compute.ts";
import { PlanViolationError } from "./errors.ts";
import type { ExpertClient, ExpertServer } from "./experts.ts";
import type { Inbox } from "./inbox.ts";
import type { Meter } from "./report.ts";
import type { Residuals } from "./residuals.ts";
import type { Roads } from "./roads.ts";
import type { Sizes } from "./sizes.ts";

/** The answer to a round's vote, as the coordinator says it. */
export type Decision = Extract<FromCoordinator, { type: "decision" }>;
type Vote = Extract<FromWorker, { type: "vote" }>;
type Evaluated = Extract<FromWorker, { type: "evaluated" }>;

/** What an executor works with; all of one generation. */
export interface RoundParts {
  readonly slice: Slice;
  readonly sizes: Sizes;
  readonly compute: Compute;
  /** What `compute` has loaded. */
  readonly held: readonly HeldTensor[];
  readonly roads: Roads;
  /** Frames of the round under way. */
  readonly inbox: Inbox;
  /**
   * Where frames wait that come beside the rounds: weights that come back while the next round goes on, and those of outer
   * steps, as pipelines that train locally count their rounds each for themselves.
   */
  readonly aside: Inbox;
  /** What rounding left out of outer gradients. */
  readonly residuals: Residuals;
  /** Asks experts on other workers. */
  readonly client: ExpertClient;
  /** Answers for the own ones. */
  readonly server: ExpertServer;
  readonly meter: Meter;
  /** Tells the coordinator. */
  readonly tell: (message: Vote | Evaluated) => void;
  /** The coordinator's answer to the vote of a round. */
  readonly decision: (round: number) => Promise<Decision>;
  /** Called when the weights are as the decision wanted them. */
  readonly stepped: (round: number) => void;
}

/** A stage that an operation names. Throws {@linkcode PlanViolationError} for one that the plan lacks. */
export function stageOf({ stages }: Slice, index: number): Stage {
  const stage = stages[index];
  if (stage === undefined) {
    throw new PlanViolationError(`An operation names stage ${index}, which the plan lacks`);
  }
  return stage;
}
