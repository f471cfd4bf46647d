/**
 * What a worker did in a round: how long its device was busy, how long operations waited, what went over its links.
 *
 * @module
 */
import type { Link } from "../mesh/link.ts";
import type { RoundReport } from "../mesh/messages.ts";
import type { Clock } from "../mesh/runtime.ts";

/** Measures rounds one after another. */
export class Meter {
  #began: number;
  #waited = 0;
  #waiting = 0;
  #waitBegan = 0;
  #sent = 0;
  #received = 0;

  constructor(private readonly clock: Clock, private readonly links: () => Iterable<Link>) {
    this.#began = clock.now();
  }

  /** Counts the time until `promise` settles as waiting; waits that overlap count once. */
  async waiting<T>(promise: Promise<T>): Promise<T> {
    if (this.#waiting++ === 0) this.#waitBegan = this.clock.now();
    try {
      return await promise;
    } finally {
      if (--this.#waiting === 0) this.#waited += this.clock.now() - this.#waitBegan;
    }
  }

  /** The report since the last one (or since the beginning), given the device's busy time of that span. */
  take(busy: number): RoundReport {
    let sent = 0, received = 0;
    for (const link of this.links()) {
      sent += link.counters.bytesSent;
      received += link.counters.bytesReceived;
    }
    const now = this.clock.now();
    const report = {
      busy,
      elapsed: now - this.#began,
      sent: sent - this.#sent,
      received: received - this.#received,
      waited: this.#waited,
    };
    this.#began = now;
    this.#waited = 0;
    this.#sent = sent;
    this.#received = received;
    return report;
  }
}
