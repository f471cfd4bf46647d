/**
 * Runs workers' lists of steps on a virtual clock: what a round takes, who waits, what crosses which link.
 *
 * The rules are the executor's (worker/rounds.ts): a worker starts its steps in the listed order and each waits for the
 * one before it, but for sends, which leave while the next step computes. A device serves one piece of work after another
 * in the order in which they come; while a pass waits for rows of other workers' experts the device serves guests. A
 * link carries one frame after another in each direction; the last byte arrives a latency after it left.
 *
 * @module
 */
import { Engine, Server } from "./engine.ts";
import { CoordinatorError } from "../errors.ts";
import type { Job, LinkSpeed, Span, Step, Timeline } from "./round.ts";

/** A list whose steps wait for each other in a circle, or for something that nobody sends. */
export class SimulationError extends CoordinatorError {
  override readonly name = "SimulationError";
}

/** Runs every list to its end. Throws {@linkcode SimulationError} where one cannot. */
export function simulate(job: Job): Timeline {
  return new Simulation(job).run();
}

class Simulation {
  readonly #engine = new Engine();
  readonly #devices: Server[];
  readonly #uplinks: Server[];
  readonly #downlinks: Server[];
  readonly #wires = new Map<number, { server: Server; speed: LinkSpeed; bytes: number }>();
  readonly #next: number[];
  readonly #arrived: Set<string>[];
  readonly #wanted: (string | undefined)[];
  readonly #first: number[];
  readonly #last: number[];
  readonly #sent: number[];
  readonly #received: number[];
  readonly #spans: Span[] = [];
  readonly #slow: number[];
  readonly #voting: number[] = [];
  readonly #voters: number;
  #end = 0;

  constructor(private readonly job: Job) {
    const n = job.lists.length, servers = () => job.lists.map(() => new Server(this.#engine));
    this.#devices = servers();
    this.#uplinks = servers();
    this.#downlinks = servers();
    this.#next = new Array(n).fill(0);
    this.#arrived = job.lists.map(() => new Set<string>());
    this.#wanted = new Array(n).fill(undefined);
    this.#first = new Array(n).fill(Infinity);
    this.#last = new Array(n).fill(0);
    this.#sent = new Array(n).fill(0);
    this.#received = new Array(n).fill(0);
    this.#slow = new Array(n).fill(1);
    this.#voters = job.lists.filter((list) => list.some((step) => step.do === "vote")).length;
  }

  run(): Timeline {
    const { lists, changes = [] } = this.job;
    for (const change of changes) {
      if (change.workers.length === 1) {
        const [worker] = change.workers;
        this.#engine.at(change.at, () => this.#slow[worker] = change.factor);
      }
    }
    lists.forEach((_, worker) => this.#engine.at(0, () => this.#go(worker)));
    this.#engine.run();
    this.#checkEnded();
    const traffic = new Map<string, number>();
    for (const [key, { bytes }] of this.#wires) {
      traffic.set(`${Math.floor(key / lists.length)}>${key % lists.length}`, bytes);
    }
    return {
      seconds: this.#end,
      workers: lists.map((_, w) => ({
        busy: this.#devices[w].busy,
        first: Math.min(this.#first[w], this.#last[w]),
        last: this.#last[w],
        sent: this.#sent[w],
        received: this.#received[w],
      })),
      traffic,
      spans: this.#spans,
    };
  }

  #checkEnded(): void {
    const stuck = this.job.lists.findIndex((list, w) => this.#next[w] < list.length);
    if (stuck < 0) return;
    const step = this.job.lists[stuck][this.#next[stuck]];
    const what = step.do === "receive" ? `"${step.key}", which nobody sends in time` : `a ${step.do}`;
    throw new SimulationError(
      `The lists cannot be run to their end: worker ${stuck} waits at step ${this.#next[stuck] + 1} for ` +
        `${what}.`,
    );
  }

  /** Starts steps of a worker until one has to wait. */
  #go(worker: number): void {
    const list = this.job.lists[worker];
    while (this.#next[worker] < list.length) {
      const step = list[this.#next[worker]];
      if (step.do === "send") {
        this.#transfer(worker, step.to, step.bytes, () => this.#arrive(step.to, step.key));
      } else if (step.do === "receive") {
        if (!this.#arrived[worker].delete(step.key)) {
          this.#wanted[worker] = step.key;
          return;
        }
      } else if (step.do === "compute") {
        this.#piece(worker, step, 0);
        return;
      } else {
        this.#voting.push(worker);
        if (this.#voting.length === this.#voters) this.#decide();
        return;
      }
      this.#next[worker]++;
    }
    this.#end = Math.max(this.#end, this.#engine.now);
  }

  #advance(worker: number): void {
    this.#next[worker]++;
    this.#go(worker);
  }

  #arrive(worker: number, key: string): void {
    if (this.#wanted[worker] === key) {
      this.#wanted[worker] = undefined;
      this.#advance(worker);
    } else this.#arrived[worker].add(key);
  }

  #piece(worker: number, step: Extract<Step, { do: "compute" }>, index: number): void {
    const piece = step.pieces[index];
    if (piece === undefined) return this.#advance(worker);
    const next = () => this.#piece(worker, step, index + 1);
    this.#device(worker, piece.seconds, step.work, step, () => {
      if (piece.exchange === undefined) return next();
      const { meanwhile, parts } = piece.exchange;
      let open = parts.length + 1;
      const close = () => {
        if (--open === 0) next();
      };
      for (const { host, bytes, seconds, owed } of parts) {
        this.#transfer(
          worker,
          host,
          bytes,
          () =>
            this.#device(
              host,
              seconds,
              "guest",
              step,
              () => {
                this.#transfer(host, worker, bytes, close);
                this.#device(host, owed, "guest", step, () => {});
              },
            ),
        );
      }
      this.#device(worker, meanwhile, step.work, step, close);
    });
  }

  #device(
    worker: number,
    seconds: number,
    work: Span["work"],
    { stage, microbatch }: { readonly stage: number; readonly microbatch: number },
    then: () => void,
  ): void {
    if (seconds === 0) return then();
    const taken = seconds * this.#slow[worker];
    const start = this.#devices[worker].take(taken), end = start + taken;
    this.#first[worker] = Math.min(this.#first[worker], start);
    this.#last[worker] = Math.max(this.#last[worker], end);
    if (this.job.trace) this.#spans.push({ worker, work, stage, microbatch, start, end });
    this.#engine.at(end, then);
  }

  #transfer(from: number, to: number, bytes: number, then: () => void): void {
    if (from === to) return then();
    const { link, up, down, lists } = this.job;
    const key = from * lists.length + to;
    let wire = this.#wires.get(key);
    if (wire === undefined) {
      const speed = link(from, to);
      if (speed === undefined) {
        throw new SimulationError(
          `Worker ${from} has something for worker ${to}, but there is no link between them.`,
        );
      }
      wire = { server: new Server(this.#engine), speed, bytes: 0 };
      this.#wires.set(key, wire);
    }
    wire.bytes += bytes;
    this.#sent[from] += bytes;
    this.#received[to] += bytes;
    const upward = up?.[from] ?? Infinity, downward = down?.[to] ?? Infinity;
    const rate = Math.min(wire.speed.bandwidth, upward, downward);
    const factor = this.#linkFactor(from, to), seconds = factor * bytes / rate;
    const earliest = Math.max(wire.server.free, this.#uplinks[from].free, this.#downlinks[to].free);
    const start = wire.server.take(seconds, earliest);
    // The shared ends are taken only for as long as they themselves need: a slow link leaves room beside it.
    if (upward < Infinity) this.#uplinks[from].take(bytes / upward, start);
    if (downward < Infinity) this.#downlinks[to].take(bytes / downward, start);
    this.#engine.at(start + seconds + factor * wire.speed.latency, then);
  }

  /** How much longer transfers between two workers take now. */
  #linkFactor(from: number, to: number): number {
    let factor = 1;
    for (const change of this.job.changes ?? []) {
      if (change.workers.length !== 2 || change.at > this.#engine.now) continue;
      const [a, b] = change.workers;
      if ((a === from && b === to) || (a === to && b === from)) factor = change.factor;
    }
    return factor;
  }

  #decide(): void {
    const voters = this.#voting.splice(0), { step = [] } = this.job;
    // A vote tells of gradients, so whoever owes some pays first.
    const now = Math.max(...voters.map((worker) => this.#devices[worker].free));
    for (const worker of voters) {
      const seconds = (step[worker] ?? 0) * this.#slow[worker], end = now + seconds;
      this.#devices[worker].take(seconds);
      if (this.job.trace && seconds > 0) {
        this.#spans.push({ worker, work: "step", stage: -1, microbatch: -1, start: now, end });
      }
      this.#engine.at(end, () => this.#advance(worker));
    }
  }
}
