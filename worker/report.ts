/**
 * What a worker did in a round: how long its device was busy, how long operations waited, what went over its links.
 *
 * @module
 */
import type { Link, LinkCounters } from "../mesh/link/link.ts";
import type { LinkReport, RoundReport } from "../mesh/control/messages.ts";
import type { Clock } from "../mesh/runtime.ts";

/** Measures rounds one after another. */
export class Meter {
  #began: number;
  #waited = 0;
  #waiting = 0;
  #waitBegan = 0;
  #sent = 0;
  #received = 0;
  /** What links had counted at the last report. */
  readonly #before = new Map<string, LinkCounters>();

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
    const links: LinkReport[] = [];
    for (const { peer, counters } of this.links()) {
      sent += counters.bytesSent;
      received += counters.bytesReceived;
      links.push(since(peer, counters, this.#before.get(peer)));
      this.#before.set(peer, counters);
    }
    const now = this.clock.now();
    const report = {
      busy,
      elapsed: now - this.#began,
      sent: sent - this.#sent,
      received: received - this.#received,
      waited: this.#waited,
      ...(links.length > 0 ? { links } : {}),
    };
    this.#began = now;
    this.#waited = 0;
    this.#sent = sent;
    this.#received = received;
    return report;
  }
}

/** What happened on a link since it had counted `before`. */
function since(peer: string, now: LinkCounters, before: LinkCounters | undefined): LinkReport {
  const bytes = now.arrivedBytes - (before?.arrivedBytes ?? 0), ms = now.sendingMs - (before?.sendingMs ?? 0);
  return {
    peer,
    roundTrip: now.roundTrip,
    goodput: ms > 0 ? bytes / ms * 1_000 : 0,
    resent: now.resent - (before?.resent ?? 0),
    creditWaits: now.creditWaits - (before?.creditWaits ?? 0),
    streamed: now.streamedBytes - (before?.streamedBytes ?? 0),
    streaming: now.streamingMs - (before?.streamingMs ?? 0),
    paths: now.paths,
  };
}
