/**
 * The quickest plan of all kinds for a cluster whose links are known: one pipeline or several.
 *
 * @module
 */
import type { Plan } from "../mesh/plan.ts";
import { PlanInfeasible } from "./errors.ts";
import { findPlan, type FindRequest } from "./find_plan.ts";
import { findReplicas } from "./find_replicas.ts";

/** A plan and what is predicted for it. */
export interface FoundAny {
  readonly plan: Plan;
  /** Predicted seconds of a training round. */
  readonly seconds: number;
  /** Every plan was considered. */
  readonly exact: boolean;
}

/** Undefined where none fits. The same request always gives the same plan. */
export function findAny(request: FindRequest): FoundAny | undefined {
  const alone = findAlone(request), several = findReplicas(request);
  const exact = (alone?.exact ?? true) && (several?.exact ?? true);
  const best = several === undefined || (alone !== undefined && alone.seconds <= several.seconds)
    ? alone
    : several;
  return best && { plan: best.plan, seconds: best.seconds, exact };
}

function findAlone(request: FindRequest): FoundAny | undefined {
  try {
    return findPlan(request);
  } catch (error) {
    if (error instanceof PlanInfeasible) return undefined; // it may fit where every pipeline has less to keep
    throw error;
  }
}
