/**
 * What real steps have shown of workers and of the links between them. What a worker measures of its device in a moment at
 * its join is only where this begins: other programs, heat and what a measurement cannot see come to light here. Of a link
 * nothing is known before it carried something.
 *
 * @module
 */
import { z } from "zod";
import { limits } from "../../mesh/limits.ts";
import type { LinkReport, Profile } from "../../mesh/control/messages.ts";
import type { Keeper } from "../admission/admission.ts";
import { CoordinatorError } from "../errors.ts";

/** Weight of the newest step once there are many: a change is taken in within some twenty, a single slow one hardly shows. */
const NEWEST = 0.1;
/** Steps up to which all count alike. */
const ALIKE = 10;
/** A step so many times as long or as short as was assumed shows a clock that stands still, or a lie. */
const MOST = 64;
/** Bytes of a link that are remembered: some hundred activations; what came before them counts less and less. */
const REMEMBERED = 64 << 20;
/** Bytes that must have come in the middle of frames before they say how fast a link is: one piece may come at once. */
const TELLING = 4 * limits.pieceBytes;
/** Bytes a second of a link at most: beyond it clocks are too coarse for the time that frames take. */
const FASTEST = 1e10;
/** Links that are remembered: eight for each of a coordinator's largest mesh. */
const mostLinks = limits.codecs * 4;

const positive = z.number().gt(0).refine(Number.isFinite), some = z.number().min(0).refine(Number.isFinite);
const name = z.string().min(1).max(limits.nameLength);
const Saved = z.strictObject({
  version: z.literal(1),
  workers: z.array(
    z.strictObject({
      worker: name,
      device: z.string().max(limits.textLength),
      flops: positive,
      steps: z.int().min(1),
    }),
  ).max(limits.knownWorkers),
  links: z.array(
    z.strictObject({ workers: z.tuple([name, name]), roundTrip: some.optional(), bytes: some, ms: some }),
  ).max(mostLinks),
});
type Saved = z.infer<typeof Saved>;
type WorkerPace = Omit<Saved["workers"][number], "worker">;
type LinkPace = Omit<Saved["links"][number], "workers">;

/** Who a pace is asked for. Another device under the same name begins anew. */
export interface Paced {
  readonly id: string;
  readonly profile: Pick<Profile, "deviceName">;
}

/** What is known of a link; each field only where it is. */
export interface KnownLink {
  readonly workers: readonly [string, string];
  /** Seconds from one end to the other. */
  readonly latency?: number;
  /** Bytes a second. */
  readonly bandwidth?: number;
}

/** Exponentially weighted, by worker and by pair; kept where there is a keeper. */
export class Paces {
  readonly #workers = new Map<string, WorkerPace>();
  readonly #links = new Map<string, LinkPace>();
  readonly #keeper: Keeper | undefined;

  constructor(keeper?: Keeper) {
    this.#keeper = keeper;
  }

  /** With what was kept. Throws {@linkcode CoordinatorError} where that is damaged. */
  static async open(keeper: Keeper): Promise<Paces> {
    const paces = new Paces(keeper), text = await keeper.read();
    if (text === undefined) return paces;
    let saved: Saved;
    try {
      saved = Saved.parse(JSON.parse(text));
    } catch {
      throw new CoordinatorError(
        "What was learned of workers' speeds (paces.json in the state folder) is damaged. Remove the file: it is learned " +
          "again from the next steps.",
      );
    }
    for (const { worker, ...pace } of saved.workers) paces.#workers.set(worker, pace);
    for (const { workers: [a, b], ...pace } of saved.links) paces.#links.set(pair(a, b), pace);
    return paces;
  }

  /** Keeps what is known now. */
  async save(): Promise<void> {
    const saved: Saved = {
      version: 1,
      workers: [...this.#workers].map(([worker, pace]) => ({ worker, ...pace })),
      links: [...this.#links].map(([key, pace]) => ({ workers: ends(key), ...pace })),
    };
    await this.#keeper?.write(JSON.stringify(saved) + "\n");
  }

  /**
   * Operations a second that a worker's steps have shown of its whole device, in the sense of its profile's; undefined where
   * nothing is known.
   */
  of({ id, profile }: Paced): number | undefined {
    const known = this.#workers.get(id);
    return known?.device === profile.deviceName ? known.flops : undefined;
  }

  /**
   * A step in which a worker's device was busy for `measured` seconds, where a whole device of `flops` operations a second
   * was assumed and `predicted` seconds followed from it.
   */
  learn({ id, profile }: Paced, flops: number, predicted: number, measured: number): void {
    const ratio = predicted / measured;
    if (!(ratio > 0 && ratio < Infinity && flops > 0)) return; // it had no work, or no clock
    const before = this.of({ id, profile }) === undefined ? undefined : this.#workers.get(id)!;
    const log = Math.log(flops * Math.min(MOST, Math.max(1 / MOST, ratio)));
    const steps = (before?.steps ?? 0) + 1;
    const old = Math.log(before?.flops ?? 1);
    renew(this.#workers, id, {
      device: profile.deviceName,
      flops: Math.exp(old + Math.max(NEWEST, 1 / Math.min(steps, ALIKE)) * (log - old)),
      steps,
    }, limits.knownWorkers);
  }

  /** What is known of a link; undefined where the two had none yet. */
  link(a: string, b: string): KnownLink | undefined {
    const known = this.#links.get(pair(a, b));
    if (known === undefined) return undefined;
    const { roundTrip, bytes, ms } = known;
    return {
      workers: [a, b],
      ...(roundTrip === undefined ? {} : { latency: roundTrip / 2_000 }),
      ...(bytes < TELLING ? {} : { bandwidth: Math.min(FASTEST, bytes / (ms / 1_000)) }),
    };
  }

  /** What is known of the links between some workers. */
  links(workers: readonly string[]): KnownLink[] {
    const there = new Set(workers);
    return [...this.#links.keys()].map(ends).filter(([a, b]) => there.has(a) && there.has(b))
      .map(([a, b]) => this.link(a, b)!);
  }

  /** What one of a link's ends saw of it in a round. */
  learnLink(
    a: string,
    b: string,
    { roundTrip, streamed, streaming }: Pick<LinkReport, "roundTrip" | "streamed" | "streaming">,
  ): void {
    const key = pair(a, b), before = this.#links.get(key);
    const trip = roundTrip >= 0 && roundTrip <= limits.deadMs ? roundTrip : undefined; // NaN before the first ping
    const told = streamed > 0 && streaming >= 0 && streaming < Infinity;
    if (trip === undefined && !told) return;
    const old = before?.roundTrip;
    const mean = trip === undefined ? old : old === undefined ? trip : old + NEWEST * (trip - old);
    const bytes = (before?.bytes ?? 0) + (told ? streamed : 0),
      ms = (before?.ms ?? 0) + (told ? streaming : 0);
    const fade = Math.min(1, REMEMBERED / Math.max(1, bytes));
    renew(this.#links, key, {
      ...(mean === undefined ? {} : { roundTrip: mean }),
      bytes: bytes * fade,
      ms: ms * fade,
    }, mostLinks);
  }
}

/** Sets a value; the one that was renewed longest ago goes where there are too many. */
function renew<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value!);
}

/** Names of workers have no spaces. */
function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}

function ends(key: string): [string, string] {
  return key.split(" ") as [string, string];
}
