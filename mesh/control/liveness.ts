/**
 * Signs of life: asks for a ping at a steady pace and says when the other end has been silent for too long.
 *
 * @module
 */
import { limits } from "../limits.ts";
import type { Clock, Timer } from "../runtime.ts";

/** What happens at the times that matter. */
export interface LivenessEvents {
  /** Time for a ping; `lag` is how late it is because this program could not run, ms. */
  ping(lag: number): void;
  suspected(suspected: boolean): void;
  dead(silentMs: number): void;
}

/** Watches one other end. */
export class Liveness {
  private timer: Timer | undefined;
  private last: number;
  private due = 0;
  private suspected = false;

  constructor(private readonly clock: Clock, private readonly events: LivenessEvents) {
    this.last = clock.now();
  }

  start(): void {
    this.last = this.clock.now();
    this.schedule();
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }

  /** Notes that something arrived. */
  heard(): void {
    this.last = this.clock.now();
    if (this.suspected) {
      this.suspected = false;
      this.events.suspected(false);
    }
  }

  heardWithin(ms: number): boolean {
    return this.clock.now() - this.last <= ms;
  }

  private schedule(): void {
    this.due = this.clock.now() + limits.heartbeatMs;
    this.timer = this.clock.timer(limits.heartbeatMs, () => this.tick());
  }

  private tick(): void {
    const now = this.clock.now();
    // Time in which this program itself could not run (busy, stopped, asleep) says nothing about the peer: what the
    // peer sent meanwhile has yet to be read.
    const lag = Math.max(0, now - this.due);
    this.last = Math.min(now, this.last + lag);
    this.schedule();
    const silent = now - this.last;
    if (silent >= limits.deadMs) return this.events.dead(silent);
    if (silent >= limits.suspectedMs && !this.suspected) {
      this.suspected = true;
      this.events.suspected(true);
    }
    this.events.ping(lag);
  }
}
