/**
 * What can go wrong with a run, by stable names.
 *
 * @module
 */
import { ModelError } from "../model/errors.ts";

/** Something about a run, a plan or the coordinator that its user can act on; `name` is stable. */
export class CoordinatorError extends Error {
  override readonly name: string = "CoordinatorError";
}

/** A recipe that cannot be run as it stands; the message says where and what would do. */
export class RecipeError extends CoordinatorError {
  override readonly name = "RecipeError";
}

/** A switch between phases that did not do what it must. */
export class SwitchError extends CoordinatorError {
  override readonly name = "SwitchError";
}

/** No division of the model over the workers exists; the message says what is short, where, and what would fit. */
export class PlanInfeasible extends CoordinatorError {
  override readonly name = "PlanInfeasible";
}

/** A run's folder that is missing, taken or not what it should be. */
export class JournalError extends CoordinatorError {
  override readonly name = "JournalError";
}

/** The coordinator's server: a port in use, an address that is not ours, a request without the owner's secret. */
export class ServerError extends CoordinatorError {
  override readonly name = "ServerError";
}

/** Invites and admitted workers: no such worker, too many invites, a damaged list. */
export class AdmissionError extends CoordinatorError {
  override readonly name = "AdmissionError";
}

/** A worker left, failed or broke the protocol in the middle of a run. */
export class WorkerFailed extends CoordinatorError {
  override readonly name = "WorkerFailed";
  constructor(readonly worker: string, reason: string) {
    super(`Worker ${worker} ${reason}`);
  }
}

/** Gradients were not finite in too many steps in a row. */
export class NotFinite extends CoordinatorError {
  override readonly name = "NotFinite";
}

/** Asked to stop before there was anything to save. */
export class Interrupted extends CoordinatorError {
  override readonly name = "Interrupted";
}

/** Errors with a stable name that their user can act on; anything else is a bug of this program. */
export function isKnown(error: Error): boolean {
  return error instanceof CoordinatorError || error instanceof ModelError || isSystemError(error);
}

/** What the operating system says: a full disk, a missing right. */
function isSystemError(error: Error): boolean {
  return typeof (error as { code?: unknown }).code === "string";
}
