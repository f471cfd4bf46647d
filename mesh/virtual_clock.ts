/**
 * A clock that moves only when told, for simulations and tests: timers fire in order of their time (and of creation
 * where times agree), each after all work that the one before set off. For platforms that have
 * `setImmediate` (Deno, Node).
 *
 * @module
 */
import { LinkError } from "./errors.ts";
import { holdResults, releaseNext } from "./outside_work.ts";
import type { Chance, Clock, Timer } from "./runtime.ts";

interface Due {
  readonly at: number;
  readonly order: number;
  /** Undefined once cancelled. */
  fire: (() => void) | undefined;
}

/** Runs after everything that is ready, without the millisecond that a timer costs. */
const { setImmediate } = globalThis as unknown as { setImmediate: (run: () => void) => void };

/** Time and chance from a seed. */
export class VirtualClock implements Clock, Chance {
  private time = 0;
  private order = 0;
  /** A binary heap by time, then order. */
  private readonly heap: Due[] = [];
  private state: number;

  /** `startWall`: what the wall shows at time 0, milliseconds since 1970. */
  constructor(seed = 1, private readonly startWall = Date.UTC(2026, 0, 1)) {
    this.state = seed >>> 0;
  }

  now(): number {
    return this.time;
  }

  wall(): number {
    return this.startWall + this.time;
  }

  timer(ms: number, fire: () => void): Timer {
    const due: Due = { at: this.time + Math.max(0, ms), order: this.order++, fire };
    this.push(due);
    return { cancel: () => due.fire = undefined };
  }

  random(count: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length: count }, () => this.word() >>> 24);
  }

  /** A number from 0 up to (not including) 1, from the seed. */
  uniform(): number {
    return this.word() / 2 ** 32;
  }

  /** Lets time pass until `promise` settles and answers with its result; `LinkError` where nothing is left to happen. */
  until<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    promise.then(() => settled = true, () => settled = true);
    return this.driving(async () => {
      await this.turn();
      while (!settled) {
        if (!this.fireNext(Infinity)) {
          throw new LinkError("Nothing is left to happen, but the awaited has not");
        }
        await this.turn();
      }
      return promise;
    });
  }

  /** Lets `ms` pass. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    await this.driving(() => this.fireUpTo(end));
    this.time = end;
  }

  /** Lets time pass until no timer is left; throws after `maxMs`, as something then goes on for ever. */
  async idle(maxMs: number): Promise<void> {
    await this.driving(() => this.fireUpTo(this.time + maxMs));
    if (this.peek() !== undefined) throw new LinkError(`Timers are still left after ${maxMs} ms`);
  }

  /** Until every promise that can settle without a timer has; what others' threads do takes no time. */
  private async turn(): Promise<void> {
    do await new Promise<void>((resolve) => setImmediate(resolve)); while (await releaseNext());
  }

  /** Does something while results of others' threads come in the clock's order. */
  private async driving<T>(go: () => Promise<T>): Promise<T> {
    const letGo = holdResults();
    try {
      return await go();
    } finally {
      letGo();
    }
  }

  private async fireUpTo(end: number): Promise<void> {
    await this.turn();
    while (this.fireNext(end)) await this.turn();
  }

  private peek(): Due | undefined {
    while (this.heap.length > 0 && this.heap[0].fire === undefined) this.pop();
    return this.heap[0];
  }

  private fireNext(end: number): boolean {
    const due = this.peek();
    if (due === undefined || due.at > end) return false;
    this.pop();
    this.time = due.at;
    const fire = due.fire!;
    due.fire = undefined;
    fire();
    return true;
  }

  private push(due: Due): void {
    const { heap } = this;
    let i = heap.length;
    heap.push(due);
    for (let up = (i - 1) >> 1; i > 0 && before(due, heap[up]); up = (i - 1) >> 1) {
      heap[i] = heap[up];
      heap[i = up] = due;
    }
  }

  private pop(): void {
    const { heap } = this, last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], last)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = last;
  }

  /** mulberry32 (Tommy Ettinger, public domain): 32 bits of state, enough for choosing faults. */
  private word(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
}

function before(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
