/**
 * What do growing and upcycling a checkpoint of more than 2 GB take, as a user does it? Peak memory, and bytes written a
 * second beside copying the same files, in turn and with the same syncing to disk. Wanted: a peak of at most 300 MiB and
 * three times the largest tensor.
 *
 * Needs about 9 GB in the system's temporary folder (or VOLARY_BENCH_FOLDER), all removed afterwards.
 *
 * @module
 */
import { join } from "@std/path";
import { size, table } from "../../coordinator/amounts.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { type ModelConfig, parseConfig } from "../../model/config.ts";
import { drawNormal } from "../../model/init.ts";
import { writeModel } from "../../model/checkpoint/interchange.ts";
import type { TensorSource } from "../../model/source.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { objects } from "../../cli/lines.ts";
import { CommandError } from "../../cli/verb.ts";
import { inTemporaryFolder } from "../harness/folders.ts";
import { startModule } from "../harness/processes.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";

/** One line for the list of benches. */
export const title = "growing and upcycling 2 GB: peak memory, and speed beside copying the files";

/** What one command reached. */
export interface GrowthSpeed {
  readonly command: string;
  readonly bytes: number;
  /** Bytes a second, written and synced. */
  readonly written: number;
  readonly copied: number;
  /** written / copied, median over the turns. */
  readonly ratio: number;
  readonly peakBytes: number;
  readonly largestTensor: number;
  /** What the peak may be: 300 MiB and three times the largest tensor. */
  readonly allowedBytes: number;
}

/** Each command and the copy of its files run in turn so often: others on the machine then disturb both alike. */
const TURNS = 3;
const PEAK_BASE = 300 * 2 ** 20;

/** 2.15 GB as f32. */
const config = parseConfig({
  model_type: "qwen2",
  hidden_size: 2048,
  intermediate_size: 5504,
  num_hidden_layers: 8,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  vocab_size: 32000,
});

const commands = {
  grow: [
    "--hidden",
    "2304",
    "--ffn",
    "6144",
    "--layers",
    "9",
    "--depth",
    "identity",
    "--width",
    "scaled-copies",
  ],
  upcycle: ["--experts", "2", "--experts-per-token", "1"],
} as const;

/** Weights that cost nothing to make: one table of normal numbers, read from changing places. */
function cheapModel(config: ModelConfig): TensorSource {
  const drawn = drawNormal(1, "bench", 0, 1 << 20, 0.02);
  return {
    config,
    read(name, start, length) {
      const words = new Float32Array(length);
      let from = (start + 977 * name.length) % drawn.length;
      for (let at = 0; at < length; from = 0) {
        const part = drawn.subarray(from, from + length - at);
        words.set(part, at);
        at += part.length;
      }
      return Promise.resolve(words);
    },
  };
}

/** Runs the program; answers with its "made" event and its peak of resident memory. */
async function volary(args: readonly string[]) {
  const permissions = ["--allow-read", "--allow-write", "--allow-env", "--allow-sys"];
  const child = startModule(new URL("../../cli.ts", import.meta.url), [...args, "--json"], { permissions });
  let peakBytes = 0, ended = false;
  const watching = (async () => {
    while (!ended) {
      // /proc takes every permission; a command that reads it does not.
      const { stdout } = await new Deno.Command("grep", {
        args: ["VmHWM", `/proc/${child.pid}/status`],
        stderr: "null",
      }).output();
      const kilobytes = new TextDecoder().decode(stdout).match(/(\d+) kB/)?.[1];
      if (kilobytes !== undefined) peakBytes = Math.max(peakBytes, 1024 * Number(kilobytes));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  const events = await Array.fromAsync(objects(child.stdout)), { success } = await child.status;
  ended = true;
  await watching;
  if (!success) throw new Error(`volary ${args.join(" ")} failed`);
  const made = events.find(({ event }) => event === "made") as unknown as { bytes: number; seconds: number };
  return { ...made, peakBytes };
}

/** Copies a folder and syncs it, as a checkpoint is; seconds. */
async function copyFolder(from: string, to: string): Promise<number> {
  const files = denoRuntime().storage, began = performance.now();
  await Deno.mkdir(to);
  for (const name of await files.list(from)) {
    await Deno.copyFile(join(from, name), join(to, name));
    await files.sync(join(to, name));
  }
  await files.sync(to);
  return (performance.now() - began) / 1000;
}

/** Measures one command against copying what it wrote. */
async function measure(
  name: keyof typeof commands,
  folder: string,
  largestTensor: number,
): Promise<GrowthSpeed> {
  const source = join(folder, "source"), made = join(folder, "made"), copy = join(folder, "copy");
  const turns: { written: number; copied: number }[] = [];
  let bytes = 0, peakBytes = 0;
  for (let turn = 0; turn < TURNS; turn++) {
    const run = await volary([name, source, made, ...commands[name]]);
    bytes = run.bytes;
    peakBytes = Math.max(peakBytes, run.peakBytes);
    turns.push({ written: bytes / run.seconds, copied: bytes / await copyFolder(made, copy) });
    await Deno.remove(copy, { recursive: true });
    await Deno.remove(made, { recursive: true });
  }
  return {
    command: name,
    bytes,
    written: median(turns.map(({ written }) => written)),
    copied: median(turns.map(({ copied }) => copied)),
    ratio: median(turns.map(({ written, copied }) => written / copied)),
    peakBytes,
    largestTensor,
    allowedBytes: PEAK_BASE + 3 * largestTensor,
  };
}

/** Runs the bench. */
export async function run({ record, print }: BenchOptions): Promise<void> {
  if (Deno.build.os !== "linux") {
    throw new CommandError("Peak memory is read from /proc, which this system lacks: measure on Linux.");
  }
  await inTemporaryFolder(async (folder) => {
    const spare = Math.max(...parameterTable(config).map(({ shape }) => 4 * elements(shape)));
    await writeModel(denoRuntime().storage, join(folder, "source"), cheapModel(config), { shardBytes: 1e9 });
    const rows: string[][] = [["command", "written", "a second", "copying", "ratio", "peak", "allowed"]];
    for (const name of Object.keys(commands) as (keyof typeof commands)[]) {
      // The grown model's largest tensor is its embedding, like the source's but wider.
      const largest = name === "grow" ? spare / 2048 * 2304 : spare;
      const speed = await measure(name, folder, largest);
      record(speed);
      rows.push([
        name,
        size(speed.bytes),
        `${size(speed.written)}/s`,
        `${size(speed.copied)}/s`,
        speed.ratio.toFixed(2),
        size(speed.peakBytes),
        size(speed.allowedBytes),
      ]);
    }
    print(...table(rows));
  }, Deno.env.get("VOLARY_BENCH_FOLDER"));
}
