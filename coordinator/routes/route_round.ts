/**
 * Rounds in which every microbatch goes its own way: SkipPipe (Blagoev, Chen, Ersoy 2025) lets a microbatch visit only
 * some of the stages, the first always, and chooses among the workers that hold a stage. The order in which workers serve
 * microbatches follows from the rules here and is then fixed: it comes out as lists for the simulator.
 *
 * @module
 */
import { Engine, Server } from "../simulator/engine.ts";
import type { LinkSpeed, Span, Step, Work } from "../simulator/round.ts";

/** Workers that a microbatch visits, in order. The first one also has the head: forward, head, then backward in reverse. */
export type Route = readonly number[];

/** By which rules a round runs; seconds. */
export interface RouteRules {
  /** Forward pass of a stage on a worker. */
  readonly forward: (worker: number) => number;
  /** Backward pass and head as multiples of the forward pass. */
  readonly backward: number;
  readonly head: number;
  readonly link: (from: number, to: number) => LinkSpeed;
  /** Bytes of an activation or gradient. */
  readonly bytes: number;
  /** Microbatches that a worker can hold between forward and backward pass. */
  readonly memory: number;
  /** Pause of a worker after each piece of work. */
  readonly pause: number;
  /** "arrival": whatever came first; "backward": backward passes before heads before forward passes, each in order of microbatch. */
  readonly order: "arrival" | "backward";
  /** Microbatches with the same number in their wave follow one another: each begins when the one before is done. */
  readonly wave?: number;
}

/** What a round came to. */
export interface RouteRound {
  /** Infinity where microbatches wait for each other's memory in a circle. */
  readonly seconds: number;
  readonly spans: readonly Span[];
  /** The same round as fixed lists, by worker. */
  readonly lists: Step[][];
}

interface Item {
  readonly microbatch: number;
  /** Place in the trip: k forward passes, the head, k backward passes. */
  readonly at: number;
  ready: number;
  readonly order: number;
}

/** Runs one round of microbatches 0.. over `routes`. Searches have route_times.ts, which is quicker and keeps nothing. */
export function routeRound(workers: number, routes: readonly Route[], rules: RouteRules): RouteRound {
  return new Round(workers, routes, rules).run();
}

class Round {
  readonly #engine = new Engine();
  readonly #queues: Item[][];
  readonly #free: number[];
  readonly #memory: number[];
  readonly #busy: boolean[];
  readonly #wires = new Map<number, Server>();
  readonly #spans: Span[] = [];
  readonly #lists: Step[][];
  #order = 0;
  #done = 0;
  #end = 0;

  constructor(
    private readonly workers: number,
    private readonly routes: readonly Route[],
    private readonly rules: RouteRules,
  ) {
    this.#queues = Array.from({ length: workers }, () => []);
    this.#free = new Array(workers).fill(0);
    this.#busy = new Array(workers).fill(false);
    this.#memory = new Array(workers).fill(rules.memory);
    this.#lists = Array.from({ length: workers }, () => []);
  }

  run(): RouteRound {
    const { wave = this.routes.length } = this.rules;
    this.routes.slice(0, wave).forEach((_, m) => this.#arrive(m, 0));
    this.#engine.run();
    const seconds = this.#done === this.routes.length ? this.#end : Infinity;
    this.#lists.forEach((list) => list.push({ do: "vote" }));
    return { seconds, spans: this.#spans, lists: this.#lists };
  }

  #work(route: Route, at: number): { worker: number; work: Work; seconds: number } {
    const k = route.length, { forward, backward, head } = this.rules;
    if (at < k) return { worker: route[at], work: "forward", seconds: forward(route[at]) };
    if (at === k) return { worker: route[0], work: "head", seconds: head * forward(route[0]) };
    const worker = route[2 * k - at];
    return { worker, work: "backward", seconds: backward * forward(worker) };
  }

  #arrive(microbatch: number, at: number): void {
    const { worker } = this.#work(this.routes[microbatch], at);
    this.#queues[worker].push({ microbatch, at, ready: this.#engine.now, order: this.#order++ });
    this.#serve(worker);
  }

  /** Starts what is next on a worker, if it is free and something can start. */
  #serve(worker: number): void {
    if (this.#busy[worker]) return;
    const item = this.#choose(worker);
    if (item === undefined) return;
    const { rules } = this, route = this.routes[item.microbatch], k = route.length;
    const { work, seconds } = this.#work(route, item.at);
    this.#queues[worker].splice(this.#queues[worker].indexOf(item), 1);
    if (work === "forward") this.#memory[worker]--;
    const start = Math.max(this.#engine.now, this.#free[worker]), end = start + seconds;
    this.#busy[worker] = true;
    this.#record(worker, item, work, start, end);
    this.#engine.at(end, () => {
      if (work === "backward") this.#memory[worker]++;
      if (item.at === 2 * k) this.#finish(item.microbatch);
      else this.#send(worker, item.microbatch, item.at + 1);
    });
    this.#engine.at(end + rules.pause, () => {
      this.#busy[worker] = false;
      this.#free[worker] = end + rules.pause;
      this.#serve(worker);
    });
  }

  #choose(worker: number): Item | undefined {
    const { order } = this.rules;
    let best: Item | undefined;
    const rank = ({ microbatch, at }: Item) => {
      const k = this.routes[microbatch].length;
      return at > k ? 0 : at === k ? 1 : 2;
    };
    for (const item of this.#queues[worker]) {
      if (rank(item) === 2 && this.#memory[worker] <= 0) continue;
      if (best === undefined) best = item;
      else if (order === "arrival") {
        if (item.ready < best.ready || (item.ready === best.ready && item.order < best.order)) best = item;
      } else if (
        rank(item) < rank(best) || (rank(item) === rank(best) && item.microbatch < best.microbatch)
      ) {
        best = item;
      }
    }
    return best;
  }

  #send(from: number, microbatch: number, at: number): void {
    const { worker: to } = this.#work(this.routes[microbatch], at);
    if (to === from) return this.#arrive(microbatch, at);
    const { latency, bandwidth } = this.rules.link(from, to), key = from * this.workers + to;
    let wire = this.#wires.get(key);
    if (wire === undefined) this.#wires.set(key, wire = new Server(this.#engine));
    const seconds = this.rules.bytes / bandwidth, start = wire.take(seconds);
    this.#engine.at(start + seconds + latency, () => this.#arrive(microbatch, at));
  }

  #finish(microbatch: number): void {
    this.#done++;
    this.#end = Math.max(this.#end, this.#engine.now);
    const next = microbatch + (this.rules.wave ?? this.routes.length);
    if (next < this.routes.length) this.#arrive(next, 0);
  }

  #record(worker: number, { microbatch, at }: Item, work: Work, start: number, end: number): void {
    const route = this.routes[microbatch], trip = 2 * route.length + 1, list = this.#lists[worker];
    const stage = work === "head" ? 0 : at < route.length ? at : trip - 1 - at;
    this.#spans.push({ worker, work, stage, microbatch, start, end });
    const before = at > 0 ? this.#work(route, at - 1).worker : worker;
    if (before !== worker) list.push({ do: "receive", key: `${microbatch} ${at}` });
    list.push({ do: "compute", work, stage, microbatch, pieces: [{ seconds: end - start }] });
    if (at === trip - 1) return;
    const after = this.#work(route, at + 1).worker;
    if (after !== worker) {
      list.push({ do: "send", to: after, key: `${microbatch} ${at + 1}`, bytes: this.rules.bytes });
    }
  }
}
