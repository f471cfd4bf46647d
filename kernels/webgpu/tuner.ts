/**
 * Which variants of a kernel suit this device, found out by measuring: on first use of a class of calls, largest first,
 * within a budget of time. All variants agree bit for bit, so that a choice may change in the middle of a run.
 *
 * @module
 */
import type { DeviceInfo } from "../device_info.ts";
import { OutOfMemoryError } from "../errors.ts";
import type { Kernel, Params, Sample, Values } from "../kernel.ts";

/** How a device measures which variants are best. */
export interface TuningOptions {
  /** What an earlier device said to `changed`; what does not fit this adapter or cannot be read is left aside. */
  readonly known?: string;
  /** Milliseconds for measuring, programs' compilation included. Default {@linkcode TUNING_MILLISECONDS}. */
  readonly milliseconds?: number;
  /** Told what is known whenever something new has been measured; text to keep for the next device. */
  readonly changed?: (text: string) => void;
}

/** A second at the start of a run: less than what the first choices of a large model cost within a minute. */
export const TUNING_MILLISECONDS = 1000;

/** Classes that text from outside may name; what one model uses is a few dozen. */
const MOST_KNOWN = 4096;

/** So many times as fast as the kernel's own preference must another size be to take its place. */
const GAIN = 1.03;

/**
 * Timings of each size, in turns, of which the shortest counts, and the milliseconds that one takes at least: short and
 * many, so that what else a CPU does spares some of them, and long enough that waiting for a GPU does not matter.
 */
const ROUNDS = 12;

const ROUND_MILLISECONDS = { software: 0.5, hardware: 4 };

/** Sizes that come so close to the best are timed as often again: what is kept shall not hang on a disturbed moment. */
const CLOSE = 1.15;

/** Calls of a class of which the largest is still to be measured. */
interface Pending {
  readonly kernel: Kernel;
  readonly values: Values<Params>;
  readonly flops: number;
}

/** A call on memory of its own, ready to be timed. */
export interface Bench {
  /** Milliseconds of so many calls in a variant. */
  time(variant: string, calls: number): Promise<number>;
  release(): void;
}

/** Makes a {@linkcode Bench}. Throws {@linkcode OutOfMemoryError}. */
export type BenchMaker = (kernel: Kernel, sample: Sample<Params>) => Bench;

/** What is known about one adapter, and what is yet to be measured. */
export class Tuner {
  readonly #info: DeviceInfo;
  readonly #options: TuningOptions;
  readonly #key: string;
  /** Sizes by class, of all adapters that the text knew. */
  readonly #known: Map<string, Map<string, string>>;
  readonly #pending = new Map<string, Pending>();
  #left: number;

  /** `runtime` names what compiles the programs, with its version. */
  constructor(info: DeviceInfo, runtime: string, options: TuningOptions) {
    this.#info = info;
    this.#options = options;
    this.#key = [info.name, info.vendor, info.architecture, info.subgroup, runtime].join("; ");
    this.#known = parse(options.known);
    this.#left = options.milliseconds ?? TUNING_MILLISECONDS;
  }

  /** The variant for a call, where its class has been measured; otherwise it will be. */
  choice(kernel: Kernel, values: Values<Params>): string | undefined {
    const { tuning } = kernel;
    if (tuning === undefined) return undefined;
    const shapeClass = tuning.shapeClass(values);
    const size = this.#known.get(this.#key)?.get(shapeClass);
    const variant = size === undefined ? undefined : tuning.variant(size, values);
    if (variant === undefined) {
      const { flops } = kernel.cost(values);
      if (!((this.#pending.get(shapeClass)?.flops ?? 0) >= flops)) {
        this.#pending.set(shapeClass, { kernel, values: { ...values }, flops });
      }
    }
    return variant;
  }

  /** Whether there is something to measure and time to do it. */
  get wanting(): boolean {
    return this.#left > 0 && this.#pending.size > 0;
  }

  /** Measures the class with the longest calls; true if something is known now that was not. */
  async measureNext(maker: BenchMaker): Promise<boolean> {
    const [shapeClass, { kernel, values }] = [...this.#pending].sort(([, a], [, b]) => b.flops - a.flops)[0];
    this.#pending.delete(shapeClass);
    const start = performance.now();
    const end = start + this.#left;
    const size = await this.measure(kernel, values, maker, end);
    this.#left = end - performance.now();
    if (size === undefined) return false;
    let sizes = this.#known.get(this.#key);
    if (sizes === undefined) this.#known.set(this.#key, sizes = new Map());
    sizes.set(shapeClass, size);
    this.#options.changed?.(JSON.stringify(
      Object.fromEntries([...this.#known].map(([key, sizes]) => [key, Object.fromEntries(sizes)])),
    ));
    return true;
  }

  /** The best size for a call's class; nothing where time (until `end`) or memory did not suffice to measure all. */
  async measure(
    kernel: Kernel,
    values: Values<Params>,
    maker: BenchMaker,
    end = Infinity,
  ): Promise<string | undefined> {
    const tuning = kernel.tuning!;
    const sample = tuning.sample(values, this.#info);
    let bench: Bench;
    try {
      bench = maker(kernel, sample);
    } catch (error) {
      // The work itself goes on without: what it needs is there already.
      if (error instanceof OutOfMemoryError) return undefined;
      throw error;
    }
    const preferred = kernel.prefer?.(values, this.#info);
    const round = ROUND_MILLISECONDS[this.#info.software ? "software" : "hardware"];
    const sizes: { size: string; variant: string; usual: boolean; calls: number; time: number }[] = [];
    try {
      for (const size of tuning.sizes(values, this.#info)) {
        const variant = tuning.variant(size, sample.values);
        if (variant === undefined) continue;
        if (performance.now() >= end) return undefined;
        await bench.time(variant, 1); // compiles
        const calls = Math.min(1000, Math.ceil(round / await bench.time(variant, 1)));
        const usual = tuning.variant(size, values) === preferred;
        sizes.push({ size, variant, usual, calls, time: Infinity });
      }
      const inTurns = async (entries: typeof sizes) => {
        for (let i = 0; i < ROUNDS; i++) {
          for (const entry of entries) {
            entry.time = Math.min(entry.time, await bench.time(entry.variant, entry.calls) / entry.calls);
          }
        }
      };
      await inTurns(sizes);
      const best = Math.min(...sizes.map(({ time }) => time));
      const close = sizes.filter(({ time }) => time <= CLOSE * best);
      if (close.length > 1) await inTurns(close);
    } finally {
      bench.release();
    }
    const cost = ({ usual, time }: { usual: boolean; time: number }) => usual ? time / GAIN : time;
    return sizes.sort((a, b) => cost(a) - cost(b))[0]?.size;
  }
}

/** The text of {@linkcode TuningOptions.changed}. A cache that cannot be read is no error: it is filled anew. */
function parse(text: string | undefined): Map<string, Map<string, string>> {
  const known = new Map<string, Map<string, string>>();
  let value: unknown;
  try {
    value = JSON.parse(text ?? "{}");
  } catch {
    return known;
  }
  let count = 0;
  for (const [key, sizes] of entries(value)) {
    const map = new Map<string, string>();
    for (const [shapeClass, size] of entries(sizes)) {
      if (typeof size === "string" && count++ < MOST_KNOWN) map.set(shapeClass, size);
    }
    known.set(key, map);
  }
  return known;
}

function entries(value: unknown): [string, unknown][] {
  return typeof value === "object" && value !== null ? Object.entries(value) : [];
}
