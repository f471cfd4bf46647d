/**
 * Which model a path on the command line means, opened with its tokenizer.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import type { Device } from "../kernels/mod.ts";
import { openDevice } from "../kernels/mod.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { type Checkpoint, openCheckpoint } from "../model/checkpoint/checkpoint.ts";
import { loadTokenizer } from "../model/text/load_tokenizer.ts";
import type { Tokenizer } from "../model/text/tokenizer.ts";
import { readLatest } from "../model/checkpoint/training_state.ts";
import { quietDriver } from "./driver.ts";
import { CommandError, UsageError } from "./verb.ts";

/** Files of this machine. */
export const files = denoRuntime().storage;

/** The folder with the weights: the path itself, or the newest checkpoint of a run's folder (RUN or RUN/latest). */
export async function modelFolder(path: string): Promise<string> {
  if (await files.size(join(path, "config.json")) !== undefined) return path;
  for (const run of basename(path) === "latest" ? [path, dirname(path)] : [path]) {
    const latest = await readLatest(files, run);
    if (latest !== undefined) return join(run, latest.folder);
  }
  throw new CommandError(
    `${path} is neither a model's folder (there is no config.json) nor a run's folder with a checkpoint.`,
  );
}

/** Opens a model and its tokenizer. */
export async function openModelFolder(
  path: string,
): Promise<{ checkpoint: Checkpoint; tokenizer: Tokenizer }> {
  const folder = await modelFolder(path);
  const checkpoint = await openCheckpoint(files, folder);
  return { checkpoint, tokenizer: await loadTokenizer(files, folder) };
}

/** Opens the device that --device names: auto (or nothing), webgpu or reference. */
export async function chosenDevice(name: string | undefined): Promise<Device> {
  quietDriver();
  if (name === undefined || name === "auto") return await openDevice();
  if (name === "webgpu" || name === "reference") return await openDevice({ kind: name });
  throw new UsageError(`--device takes auto, webgpu or reference, not "${name}".`);
}

/** Makes standard output carry text without a line end. */
export function write(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
