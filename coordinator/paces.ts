/**
 * How workers turn out in real steps beside what was predicted for them. What a worker measures of its device in a moment
 * at its join is only where this begins: other programs, heat and what a measurement cannot see come to light here.
 *
 * @module
 */

import { limits } from "../mesh/limits.ts";

/** Weight of the newest step: a change is taken in within some twenty steps, a single slow step hardly shows. */
const NEWEST = 0.1;
/** A pace beyond this, or its inverse, is a clock that stands still or a lie. */
const MOST = 64;

/** Exponentially weighted, by worker, for as long as the coordinator runs. */
export class Paces {
  readonly #logs = new Map<string, number>();
  readonly #trips = new Map<string, number>();

  /** Measured seconds for each predicted one; undefined for a worker of whom nothing is known. */
  of(worker: string): number | undefined {
    const log = this.#logs.get(worker);
    return log === undefined ? undefined : Math.exp(log);
  }

  /** Milliseconds to a peer and back; undefined where the two had no link yet. */
  roundTrip(a: string, b: string): number | undefined {
    return this.#trips.get(pair(a, b));
  }

  /** A link's round trip as one of its ends saw it, ms; NaN before its first ping. */
  learnLink(a: string, b: string, roundTrip: number): void {
    if (!(roundTrip >= 0 && roundTrip <= limits.deadMs)) return;
    const key = pair(a, b), before = this.#trips.get(key);
    this.#trips.set(key, before === undefined ? roundTrip : before + NEWEST * (roundTrip - before));
  }

  /** A step in which a worker's device was busy for `measured` seconds, where its profile alone predicts `predicted`. */
  learn(worker: string, predicted: number, measured: number): void {
    const ratio = measured / predicted;
    if (!(ratio > 0 && ratio < Infinity)) return; // it had no work, or no clock
    const log = Math.log(Math.min(MOST, Math.max(1 / MOST, ratio))), before = this.#logs.get(worker);
    this.#logs.set(worker, before === undefined ? log : before + NEWEST * (log - before));
  }
}

function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
