/**
 * A virtual clock for the simulator: events in order of their time (and of creation where times agree), and devices and
 * links that serve one piece of work after another. Times are seconds.
 *
 * @module
 */

/** Fires callbacks in order of time. */
export class Engine {
  #now = 0;
  #order = 0;
  // A binary heap in three arrays: much lighter than objects where a step has millions of events.
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  readonly #calls: (() => void)[] = [];

  /** Seconds since the beginning. */
  get now(): number {
    return this.#now;
  }

  /** Calls `call` at `time`, or now where that has passed. */
  at(time: number, call: () => void): void {
    const times = this.#times, orders = this.#orders, calls = this.#calls;
    const key = Math.max(time, this.#now), order = this.#order++;
    let i = times.length;
    times.push(key);
    orders.push(order);
    calls.push(call);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (times[parent] < key || (times[parent] === key && orders[parent] < order)) break;
      times[i] = times[parent];
      orders[i] = orders[parent];
      calls[i] = calls[parent];
      i = parent;
    }
    times[i] = key;
    orders[i] = order;
    calls[i] = call;
  }

  /** Runs until nothing is left to happen. */
  run(): void {
    for (let call = this.#pop(); call !== undefined; call = this.#pop()) call();
  }

  #pop(): (() => void) | undefined {
    const times = this.#times, orders = this.#orders, calls = this.#calls;
    if (times.length === 0) return undefined;
    const call = calls[0];
    this.#now = times[0];
    const time = times.pop()!, order = orders.pop()!, last = calls.pop()!, size = times.length;
    if (size === 0) return call;
    let i = 0;
    for (let child = 1; child < size; child = 2 * i + 1) {
      const right = child + 1;
      if (
        right < size &&
        (times[right] < times[child] || (times[right] === times[child] && orders[right] < orders[child]))
      ) child = right;
      if (time < times[child] || (time === times[child] && order < orders[child])) break;
      times[i] = times[child];
      orders[i] = orders[child];
      calls[i] = calls[child];
      i = child;
    }
    times[i] = time;
    orders[i] = order;
    calls[i] = last;
    return call;
  }
}

/** Serves one piece after another, in the order in which they come. */
export class Server {
  #free = 0;
  /** Seconds of work so far. */
  busy = 0;

  constructor(private readonly engine: Engine) {}

  /** When what is under way and waiting will be done. */
  get free(): number {
    return Math.max(this.#free, this.engine.now);
  }

  /** Takes `seconds` from the moment when all before is done, but not before `earliest`; answers with the start. */
  take(seconds: number, earliest = this.engine.now): number {
    const start = Math.max(this.#free, earliest);
    this.#free = start + seconds;
    this.busy += seconds;
    return start;
  }
}
