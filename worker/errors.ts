/**
 * What can go wrong in a worker, by stable names.
 *
 * @module
 */

/** The generation is over (stopped, replaced, a fault elsewhere); whatever waited for something of it gets this. */
export class GenerationOverError extends Error {
  override readonly name = "GenerationOverError";
}

/** A peer or the coordinator sent what the plan does not allow; the message says what and who. */
export class PlanViolationError extends Error {
  override readonly name = "PlanViolationError";
}

/** The coordinator did not admit this worker; the message is its reason. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
}
