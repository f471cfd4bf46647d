/**
 * The time of a round of routes without its spans and lists: what {@linkcode "./route_round.ts"} comes to, bit for bit, many
 * times faster. Searches ask it hundreds of thousands of times.
 *
 * A microbatch is at one place at a time: it waits at a worker, is worked on, or is on its way. So there is at most one
 * event for each, and a tournament over the microbatches finds the next.
 *
 * @module
 */
import type { Route, RouteRules } from "./route_round.ts";

/** What a round came to. */
export interface RouteTimes {
  /** Infinity where microbatches wait for each other's memory in a circle. */
  readonly seconds: number;
  /** Power mean (exponent 8) of the times at which microbatches were done: near the last, but moved by each late one. */
  readonly late: number;
}

/** Judges rounds of one number of microbatches by one set of rules: without pauses and waves. */
export class RouteClock {
  readonly #forward: Float64Array;
  readonly #memory: Int32Array;
  readonly #busy: Int32Array;
  /** Seconds that a frame keeps a way busy, then seconds until it has arrived; and when each way is free. */
  readonly #carry: Float64Array;
  readonly #latency: Float64Array;
  readonly #wire: Float64Array;
  /** Microbatches that wait at a worker. */
  readonly #queue: Int32Array;
  readonly #waiting: Int32Array;
  /** By microbatch: where in its trip it is, since when and as which of all arrivals it waits, and its event. */
  readonly #at: Int32Array;
  readonly #ready: Float64Array;
  readonly #arrival: Int32Array;
  readonly #worked: Uint8Array;
  readonly #time: Float64Array;
  readonly #order: Int32Array;
  /** The tournament: place 1 has the microbatch whose event comes first, place i the first of 2i and 2i + 1. */
  readonly #leaves: number;
  readonly #first: Int32Array;
  #routes: readonly Route[] = [];
  #now = 0;
  #events = 0;
  #arrivals = 0;
  #done = 0;
  #sum = 0;

  constructor(
    private readonly workers: number,
    private readonly microbatches: number,
    private readonly rules: RouteRules,
  ) {
    if (rules.pause > 0 || rules.wave !== undefined) {
      throw new RangeError("Rounds with pauses or waves are run by routeRound, not by a RouteClock");
    }
    const ways = workers * workers;
    this.#forward = Float64Array.from({ length: workers }, (_, w) => rules.forward(w));
    this.#memory = new Int32Array(workers);
    this.#busy = new Int32Array(workers);
    this.#carry = new Float64Array(ways);
    this.#latency = new Float64Array(ways);
    this.#wire = new Float64Array(ways);
    for (let way = 0; way < ways; way++) {
      const from = Math.floor(way / workers), to = way % workers;
      if (from === to) continue;
      const { latency, bandwidth } = rules.link(from, to);
      this.#carry[way] = rules.bytes / bandwidth;
      this.#latency[way] = latency;
    }
    this.#queue = new Int32Array(workers * microbatches);
    this.#waiting = new Int32Array(workers);
    this.#at = new Int32Array(microbatches);
    this.#ready = new Float64Array(microbatches);
    this.#arrival = new Int32Array(microbatches);
    this.#worked = new Uint8Array(microbatches);
    this.#leaves = 2 ** Math.ceil(Math.log2(Math.max(2, microbatches)));
    this.#time = new Float64Array(2 * this.#leaves);
    this.#order = new Int32Array(this.#leaves);
    this.#first = new Int32Array(2 * this.#leaves);
  }

  /** Runs a round. */
  run(routes: readonly Route[]): RouteTimes {
    const { microbatches } = this;
    this.#routes = routes;
    this.#memory.fill(this.rules.memory);
    this.#busy.fill(0);
    this.#wire.fill(0);
    this.#waiting.fill(0);
    this.#at.fill(0);
    this.#time.fill(Infinity);
    this.#order.fill(-1);
    for (let i = 0; i < this.#leaves; i++) this.#first[this.#leaves + i] = i;
    for (let i = this.#leaves - 1; i > 0; i--) this.#first[i] = this.#first[2 * i];
    this.#now =
      this.#events =
      this.#arrivals =
      this.#done =
      this.#sum =
        0;
    for (let m = 0; m < microbatches; m++) this.#arrive(m);
    for (;;) {
      const m = this.#first[1], time = this.#time[1], order = this.#order[m];
      if (time === Infinity) break;
      this.#now = time;
      if (this.#worked[m]) this.#end(m);
      else this.#arrive(m);
      // Most microbatches have their next event by now; others wait or are done.
      if (this.#order[m] === order) this.#set(m, Infinity);
    }
    const seconds = this.#done === microbatches ? this.#now : Infinity;
    return { seconds, late: (this.#sum / microbatches) ** (1 / 8) };
  }

  /** Gives a microbatch its next event. */
  #set(m: number, time: number): void {
    const times = this.#time, orders = this.#order, first = this.#first;
    orders[m] = this.#events++;
    let i = this.#leaves + m;
    times[i] = time;
    for (; i > 1; i >>= 1) {
      const other = i ^ 1, parent = i >> 1, x = times[i], y = times[other], b = first[other];
      if (x < y || (x === y && orders[first[i]] < orders[b])) {
        times[parent] = x;
        first[parent] = first[i];
      } else {
        if (first[parent] === b && times[parent] === y) return; // as it was
        times[parent] = y;
        first[parent] = b;
      }
    }
  }

  #worker(m: number): number {
    const route = this.#routes[m], k = route.length, at = this.#at[m];
    return at < k ? route[at] : at === k ? route[0] : route[2 * k - at];
  }

  #arrive(m: number): void {
    const worker = this.#worker(m);
    this.#ready[m] = this.#now;
    this.#arrival[m] = this.#arrivals++;
    this.#queue[worker * this.microbatches + this.#waiting[worker]++] = m;
    if (!this.#busy[worker]) this.#serve(worker);
  }

  /** Starts what is next on a free worker, if something can start. */
  #serve(worker: number): void {
    const queue = this.#queue, begin = worker * this.microbatches, end = begin + this.#waiting[worker];
    const full = this.#memory[worker] <= 0, byArrival = this.rules.order === "arrival";
    let best = -1, bestRank = 0;
    for (let i = begin; i < end; i++) {
      const m = queue[i], k = this.#routes[m].length, at = this.#at[m];
      const rank = at > k ? 0 : at === k ? 1 : 2;
      if (rank === 2 && full) continue;
      if (best >= 0) {
        const b = queue[best];
        const sooner = byArrival
          ? this.#ready[m] < this.#ready[b] ||
            (this.#ready[m] === this.#ready[b] && this.#arrival[m] < this.#arrival[b])
          : rank < bestRank || (rank === bestRank && m < b);
        if (!sooner) continue;
      }
      best = i;
      bestRank = rank;
    }
    if (best < 0) return;
    const m = queue[best], forward = this.#forward[worker];
    queue[best] = queue[end - 1];
    this.#waiting[worker]--;
    if (bestRank === 2) this.#memory[worker]--;
    this.#busy[worker] = 1;
    this.#worked[m] = 1;
    const { backward, head } = this.rules;
    this.#set(m, this.#now + (bestRank === 2 ? forward : (bestRank === 1 ? head : backward) * forward));
  }

  /** A worker is done with a piece of work: the microbatch goes on, and the worker with what waits. */
  #end(m: number): void {
    const worker = this.#worker(m), k = this.#routes[m].length, at = this.#at[m];
    this.#worked[m] = 0;
    if (at > k) this.#memory[worker]++;
    if (at === 2 * k) {
      this.#done++;
      this.#sum += this.#now ** 8;
    } else {
      this.#at[m] = at + 1;
      const to = this.#worker(m);
      if (to === worker) this.#arrive(m);
      else {
        const way = worker * this.workers + to, carry = this.#carry[way];
        const start = Math.max(this.#wire[way], this.#now);
        this.#wire[way] = start + carry;
        this.#set(m, Math.max(start + carry + this.#latency[way], this.#now));
      }
    }
    this.#busy[worker] = 0;
    this.#serve(worker);
  }
}
