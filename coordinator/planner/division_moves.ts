/**
 * Small changes to a division, drawn at random: layers and experts move, stages change workers, come and go.
 *
 * @module
 */
import type { RandomStream } from "../../model/random.ts";
import type { Judge } from "./judge.ts";
import type { Division } from "./division.ts";
import { fastestFirst, layerSeconds } from "./first_divisions.ts";

/** Small changes to divisions. */
export class Moves {
  readonly #workers: number;
  /** Workers by speed, fastest first. */
  readonly #ranked: readonly number[];

  constructor(
    private readonly judge: Judge,
    private readonly random: RandomStream,
    private readonly limits: { readonly stages?: number; readonly hosts?: boolean },
  ) {
    this.#workers = judge.setting.cluster.workers.length;
    this.#ranked = fastestFirst(layerSeconds(judge));
  }

  /** A division one change away, or undefined where the change drawn is not possible. */
  change(division: Division): Division | undefined {
    const { experts } = this.judge.setting.config, hosts = experts > 0 && this.limits.hosts !== false;
    const fixed = this.limits.stages !== undefined;
    switch (this.random.integer(hosts ? 9 : 6)) {
      case 0:
      case 1:
        return this.#border(division);
      case 2:
        return this.#swap(division);
      case 3:
        return this.#replace(division);
      case 4:
        return fixed ? this.#move(division) : this.#remove(division);
      case 5:
        return fixed ? this.#border(division) : this.#insert(division);
      default:
        return this.#experts(division);
    }
  }

  #stage(division: Division): number {
    return this.random.integer(division.length);
  }

  /** A worker without a part; the faster ones are drawn more often. */
  #free(division: Division, hostsToo: boolean): number | undefined {
    const used = new Set<number>();
    for (const { worker, remote } of division) {
      used.add(worker);
      if (hostsToo) { for (const [host] of remote) used.add(host); }
    }
    for (let tries = 0; tries < 8; tries++) {
      const worker = this.#ranked[Math.floor(this.random.uniform() ** 2 * this.#workers)];
      if (!used.has(worker)) return worker;
    }
    return this.#ranked.find((worker) => !used.has(worker));
  }

  /** Some layers from one stage to another. Between neighbours the rest stays; further off all between shift along. */
  #border(division: Division): Division | undefined {
    if (division.length < 2) return undefined;
    const from = this.#stage(division), near = this.random.integer(2) === 0;
    const to = near ? from + (this.random.integer(2) === 0 ? 1 : -1) : this.#stage(division);
    if (to < 0 || to >= division.length || to === from) return undefined;
    const count = 1 + this.random.integer(Math.min(3, division[from].layers));
    if (division[from].layers <= count) return undefined;
    return division.map((part, s) =>
      s === from
        ? { ...part, layers: part.layers - count }
        : s === to
        ? { ...part, layers: part.layers + count }
        : part
    );
  }

  /** Two stages change workers, with or without their layers. */
  #swap(division: Division): Division | undefined {
    const a = this.#stage(division), b = this.#stage(division);
    if (a === b) return undefined;
    const whole = this.random.integer(2) === 0;
    return division.map((part, s) => {
      if (s !== a && s !== b) return part;
      const other = division[s === a ? b : a];
      return whole ? other : { ...part, worker: other.worker };
    });
  }

  /** A stage goes to another place in the order. */
  #move(division: Division): Division | undefined {
    const from = this.#stage(division), to = this.#stage(division);
    if (from === to) return undefined;
    const rest = division.toSpliced(from, 1);
    return rest.toSpliced(to, 0, division[from]);
  }

  #replace(division: Division): Division | undefined {
    const worker = this.#free(division, true), at = this.#stage(division);
    if (worker === undefined) return this.#move(division);
    return division.map((part, s) => s === at ? { ...part, worker } : part);
  }

  /** A stage's layers go to a neighbour. */
  #remove(division: Division): Division | undefined {
    if (division.length < 2) return undefined;
    const at = this.#stage(division);
    const to = at === 0
      ? 1
      : at === division.length - 1
      ? at - 1
      : at + (this.random.integer(2) === 0 ? 1 : -1);
    return division.map((part, s) => s === to ? { ...part, layers: part.layers + division[at].layers } : part)
      .toSpliced(at, 1);
  }

  /** A free worker takes some layers of a stage, before or behind it. */
  #insert(division: Division): Division | undefined {
    const worker = this.#free(division, true), at = this.#stage(division), { layers } = division[at];
    if (worker === undefined || layers < 2) return undefined;
    const taken = 1 + this.random.integer(layers - 1);
    const rest = division.map((part, s) => s === at ? { ...part, layers: layers - taken } : part);
    return rest.toSpliced(at + this.random.integer(2), 0, { worker, layers: taken, remote: [] });
  }

  /** Experts of a stage go to a host, back, or from host to host. */
  #experts(division: Division): Division | undefined {
    const at = this.#stage(division), part = division[at], own = this.judge.own(part);
    const counts = new Map(part.remote);
    const holders = new Set(division.map(({ worker }) => worker));
    const places = [part.worker, ...counts.keys()];
    const from = places[this.random.integer(places.length)];
    let to: number | undefined;
    switch (this.random.integer(3)) {
      case 0:
        to = places[this.random.integer(places.length)];
        break;
      case 1: {
        const others = division[this.#stage(division)].remote;
        to = others.length > 0 ? others[this.random.integer(others.length)][0] : this.#free(division, true);
        break;
      }
      default:
        to = this.#free(division, true);
    }
    if (to === undefined || to === from || (to !== part.worker && holders.has(to))) return undefined;
    const here = from === part.worker ? own : counts.get(from)!;
    if (here === 0) return undefined;
    const moved = 1 + this.random.integer(here);
    if (from !== part.worker) counts.set(from, here - moved);
    if (to !== part.worker) counts.set(to, (counts.get(to) ?? 0) + moved);
    const remote = [...counts].filter(([, n]) => n > 0).sort(([a], [b]) => a - b);
    return division.map((other, s) => s === at ? { ...other, remote } : other);
  }
}
