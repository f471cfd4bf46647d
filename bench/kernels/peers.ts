/**
 * How fast are matrix products and a training step of a small perceptron beside other libraries on WebGPU? On the same
 * adapter, in turns, so that whatever else the machine does hits all alike. Wanted: 3.2 to 6 times as fast as each (LEAST).
 *
 * The others run in processes of their own (peers/process.ts), whose packages have a lock file of their own: users of the
 * program never download them.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { objects } from "../../cli/lines.ts";
import { CommandError } from "../../cli/verb.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { webgpuDevice } from "../../kernels/mod.ts";
import { oneThread } from "../harness/adapter.ts";
import { startModule, writeLine } from "../harness/processes.ts";
import { median } from "../harness/statistics.ts";
import { ours } from "./peers_ours.ts";
import { LAYOUTS, MLP_FLOPS, type Peer, type ProductLayout, SIDE } from "./peers/problem.ts";

/** One line for the list of benches. */
export const title = "matrix products and a perceptron's step beside tfjs and jax-js on WebGPU";

/**
 * Rounds, in each of which every library has a turn, and the least milliseconds of a turn: waiting for a result costs some.
 * The median of the rounds counts, of times and of ratios: a ratio is of turns that follow each other, so that what else the
 * machine does for a while hits both.
 */
const ROUNDS = 9, ROUND_MILLISECONDS = 250;

/** Calls before those that are timed: this project measures variants for a second, after each read for one class of shapes. */
const WARM_UP = 10;

/** How many times as fast as each peer this project must be. */
const LEAST: Readonly<Record<string, readonly [tfjs: number, jaxJs: number]>> = {
  nn: [3.2, 3.2],
  nt: [4.4, 4.4],
  tn: [4.8, 4.8],
  step: [6, 5],
};

/** Largest relative difference between libraries that compute the same in different orders. */
const TOLERANCE = 1e-3;

interface Result {
  readonly name: string;
  /** Milliseconds of one call, by the name of what was measured. */
  readonly milliseconds: Record<string, number>;
  readonly values: Record<string, number>;
  /** How many times as long as this project a call took. */
  readonly ratios: Record<string, number>;
}

/** What one library did in {@linkcode inTurns}. */
interface Turns {
  readonly milliseconds: number;
  readonly value: number;
  readonly ratio: number;
}

/** A peer's process. Throws why it cannot run here. */
async function otherProcess(which: "tfjs" | "jax-js"): Promise<Peer> {
  const file = (name: string) => new URL(`peers/${name}`, import.meta.url);
  const config = fromFileUrl(file("deno.json")), permissions = ["--allow-read", "--allow-env"];
  const process = startModule(file("process.ts"), [which], {
    permissions,
    flags: ["--config", config, "--frozen"],
    stdin: "piped",
    stderr: "null",
  });
  const output = objects(process.stdout);
  const answer = async <T>(): Promise<T> => {
    const { value } = await output.next();
    if (value !== undefined) return value as T;
    const command = ["deno run --config", config, ...permissions, fromFileUrl(file("process.ts")), which];
    throw new CommandError(`The process of ${which} ended; \`${command.join(" ")}\` shows why`);
  };
  const ask = async <T>(request: unknown): Promise<T> => {
    await writeLine(process, JSON.stringify(request));
    return await answer<T>();
  };
  const { name, absent } = await answer<{ name: string; absent?: string }>();
  if (absent !== undefined) throw new CommandError(`${which} cannot run here: ${absent}`);
  return {
    name,
    product: (layout: ProductLayout, calls: number) => ask({ product: layout, calls }),
    steps: (count: number) => ask({ steps: count }),
    close: () => void process.stdin.close(),
  };
}

/** Rounds of all peers in turns: milliseconds of one call, what it gave, and how many times as long as the first peer's. */
async function inTurns(
  peers: readonly Peer[],
  call: (peer: Peer, count: number) => Promise<{ milliseconds: number; value: number }>,
): Promise<Turns[]> {
  const counts: number[] = [], values: number[] = [];
  const times: number[][] = peers.map(() => []);
  for (const [i, peer] of peers.entries()) {
    // The first call compiles. All make equally many before the timed ones: steps change the loss.
    values[i] = (await call(peer, 1)).value;
    if (i === 0) { for (let n = 0; n < WARM_UP; n++) await call(peer, 1); }
    counts[i] = Math.max(1, Math.ceil(ROUND_MILLISECONDS / (await call(peer, 1)).milliseconds));
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, peer] of peers.entries()) {
      times[i].push((await call(peer, counts[i])).milliseconds / counts[i]);
    }
  }
  return times.map((list, i) => ({
    milliseconds: median(list),
    value: values[i],
    ratio: median(list.map((ms, round) => ms / times[0][round])),
  }));
}

/** Measures and prints; false where a goal is missed, or a peer computes something else. */
export async function run({ record, print }: BenchOptions): Promise<boolean> {
  oneThread();
  const device = await webgpuDevice({ tuning: {} });
  const peers = [ours(device), await otherProcess("tfjs"), await otherProcess("jax-js")];
  const results: Result[] = peers.map(({ name }) => ({ name, milliseconds: {}, values: {}, ratios: {} }));
  const measure = async (
    what: string,
    call: (peer: Peer, count: number) => Promise<{ milliseconds: number; value: number }>,
  ) => {
    for (const [i, { milliseconds, value, ratio }] of (await inTurns(peers, call)).entries()) {
      results[i].milliseconds[what] = milliseconds;
      results[i].values[what] = value;
      results[i].ratios[what] = ratio;
    }
  };
  for (const layout of LAYOUTS) {
    await measure(layout, async (peer, count) => {
      const { milliseconds, element } = await peer.product(layout, count);
      return { milliseconds, value: element };
    });
  }
  await measure("step", async (peer, count) => {
    const { milliseconds, loss } = await peer.steps(count);
    return { milliseconds, value: loss };
  });
  for (const peer of peers) peer.close();

  const [own, ...others] = results;
  const wrong = others.flatMap(({ name, values }) =>
    Object.keys(values).filter((what) =>
      !(Math.abs(values[what] - own.values[what]) <= TOLERANCE * Math.max(1, Math.abs(own.values[what])))
    ).map((what) => `${name} computes something else: ${what} gives ${values[what]}, not ${own.values[what]}`)
  );
  const missed = others.flatMap(({ name, ratios }, peer) =>
    Object.entries(LEAST).filter(([what, least]) => ratios[what] < least[peer])
      .map(([what, least]) => `${name}, ${what}: less than ${least[peer]} times as fast`)
  );
  record({ device: device.info.name, results, missed, wrong });
  const flops: Record<string, number> = {
    nn: 2 * SIDE ** 3,
    nt: 2 * SIDE ** 3,
    tn: 2 * SIDE ** 3,
    step: MLP_FLOPS,
  };
  print(
    `${device.info.name}; ${SIDE}^3 in f32 by layout, and the perceptron's step\n`,
    `${"".padEnd(8)}${results.map(({ name }) => name.padStart(30)).join("")}`,
  );
  for (const what of Object.keys(flops)) {
    const cells = results.map(({ milliseconds: { [what]: ms }, ratios }, i) => {
      const ratio = i === 0 ? "" : ` (${ratios[what].toFixed(2)}x)`;
      return `${ms.toFixed(1)} ms, ${(flops[what] / ms / 1e6).toFixed(1)} GFLOPS${ratio}`.padStart(30);
    });
    print(`${what.padEnd(8)}${cells.join("")}`);
  }
  print(...missed, ...wrong);
  return missed.length === 0 && wrong.length === 0;
}
