/**
 * A round for the simulator: workers' lists of steps and the links between them, and what came of it.
 *
 * @module
 */

/** What a device does in a step. */
export type Work = "forward" | "backward" | "backward-input" | "backward-weight" | "head";

/**
 * A step of a worker's list. The steps of a Plan's operations are made one by one, in order, by simulate_plan.ts; the only
 * ones that a plan cannot say yet are the two halves of a backward pass and a head of its own.
 */
export type Step =
  | {
    readonly do: "compute";
    readonly work: Work;
    readonly stage: number;
    readonly microbatch: number;
    readonly pieces: readonly Piece[];
  }
  | { readonly do: "send"; readonly to: number; readonly key: string; readonly bytes: number }
  | { readonly do: "receive"; readonly key: string }
  /** Waits until every worker is here. */
  | { readonly do: "vote" };

/** A part of a pass: own work, then, if it has an exchange, rows for other workers and more own work meanwhile. */
export interface Piece {
  readonly seconds: number;
  readonly exchange?: {
    readonly meanwhile: number;
    readonly parts: readonly Part[];
  };
}

/** Rows for one host: bytes there and the same back, and the host's seconds between and, for nobody who waits, behind. */
export interface Part {
  readonly host: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly owed: number;
}

/** A direction of a link. */
export interface LinkSpeed {
  /** Seconds from one end to the other. */
  readonly latency: number;
  /** Bytes a second; Infinity where transfers do not delay one another. */
  readonly bandwidth: number;
}

/** A change of speed in the middle of a round: what begins after it takes `factor` times as long. */
export interface Change {
  readonly at: number;
  /** One worker's device, or both directions between two workers. */
  readonly workers: readonly [number] | readonly [number, number];
  readonly factor: number;
}

/** What to simulate. */
export interface Job {
  /** By worker. */
  readonly lists: readonly (readonly Step[])[];
  /** The link from one worker to another; undefined where there is none. */
  readonly link: (from: number, to: number) => LinkSpeed | undefined;
  /** Bytes a second that a worker can send and receive in all; Infinity where only its links count. */
  readonly up?: readonly number[];
  readonly down?: readonly number[];
  /** Seconds of each worker behind the vote: the decision's way and the optimizer. */
  readonly step?: readonly number[];
  readonly changes?: readonly Change[];
  /** Keep every span of work and every transfer, for pictures. */
  readonly trace?: boolean;
}

/** Something that happened on a device. */
export interface Span {
  readonly worker: number;
  /** A guest is work for another worker's pass. */
  readonly work: Work | "guest" | "step";
  readonly stage: number;
  readonly microbatch: number;
  readonly start: number;
  readonly end: number;
}

/** What a worker did in the round. */
export interface WorkerTime {
  /** Seconds of work, guests' included. */
  readonly busy: number;
  /** Start of the first and end of the last piece of work before the vote. */
  readonly first: number;
  readonly last: number;
  readonly sent: number;
  readonly received: number;
}

/** A simulated round. */
export interface Timeline {
  /** Seconds of the whole round. */
  readonly seconds: number;
  readonly workers: readonly WorkerTime[];
  /** Bytes by direction: key "from>to". */
  readonly traffic: ReadonlyMap<string, number>;
  /** Empty without `trace`. */
  readonly spans: readonly Span[];
}
