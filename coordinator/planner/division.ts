/**
 * A way to divide a model over a cluster, as the planner handles it.
 *
 * @module
 */

/** A stage of a division. Every layer of it has its experts on the same workers. */
export interface Part {
  /** Place in the cluster. */
  readonly worker: number;
  readonly layers: number;
  /** Experts of each layer that other workers hold: pairs of worker and number, each worker once. */
  readonly remote: readonly (readonly [host: number, experts: number])[];
}

/** Stages in order of the layers, each on a worker of its own; hosts have no stage. */
export type Division = readonly Part[];
