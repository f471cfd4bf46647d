/**
 * The meshes that bench/mesh/mesh.ts and bench/mesh/memory.ts measure: a small model on memory links in one process, over werift in
 * several, a bare werift channel, and the model's kernels alone.
 *
 * Every mesh is a process (or several) of its own, because a software adapter takes its number of threads from the
 * environment: LP_NUM_THREADS=1 for each worker of a mesh, 2 for the lone worker.
 *
 * @module
 */
import { join } from "@std/path";
import { objects } from "../../cli/lines.ts";
import { CommandError } from "../../cli/verb.ts";
import { lean, permissions, volary } from "../../demo/processes.ts";
import { inTemporaryFolder } from "../harness/folders.ts";
import { startModule } from "../harness/processes.ts";
import { rawGoodput } from "../links/raw_goodput.ts";

/** Bytes that a bare channel carries. */
const RAW_BYTES = 32 << 20;
/** Under which a device's measured speed is kept: nothing but this module's processes shares it. */
export const BESIDE = "bench";
/** Steps between which the memory of several processes is looked at: each look starts a program. */
const RESIDENT_EVERY = 50;

/** An event of a run. */
export type Line = Record<string, unknown>;

/** A step as its run reports it. */
export interface Step {
  readonly seconds: number;
  /** Bytes that all workers sent to each other. */
  readonly bytes: number;
  /** Resident memory after it, where it was measured. */
  readonly rss: number;
}

/** How much is trained, and of which model. */
export interface Phase {
  readonly model: ModelName;
  readonly steps: number;
  readonly batch: number;
  readonly sequence: number;
}

/** Microbatches of a step. */
export const MICROBATCHES = 4;

/** The demo's model, as a config.json says it. */
const demo = {
  model_type: "aquilamoe",
  vocab_size: 259,
  hidden_size: 128,
  intermediate_size: 64,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
  attention_bias: true,
  tie_word_embeddings: false,
  num_local_experts: 8,
  num_experts_per_tok: 2,
};

/** The models: the demo's, and the one of bench/step/step_model.ts with its 5.05 M parameters. */
export const models = { demo, step: { ...demo, vocab_size: 512, intermediate_size: 384 } };
export type ModelName = keyof typeof models;

/** A model as a recipe's [model] has it, without its seed. */
export function modelKeys(model: ModelName): string {
  return Object.entries(models[model]).map(([key, value]) => `${key} = ${JSON.stringify(value)}`).join("\n");
}

/** A model in the demo's places: two stages and a host of experts. */
export function recipe(name: string, workers: number, phase: Phase): string {
  return `
name = "${name}"
[model]
${modelKeys(phase.model)}
seed = 1
[data]
train = ["text.txt"]
tokenizer = "bytes"
[mesh]
stages = ${workers === 1 ? 1 : 2}
expert_hosts = ${workers === 1 ? 0 : workers - 2}
[[phase]]
kind = "train"
steps = ${phase.steps}
batch = ${phase.batch}
microbatches = ${MICROBATCHES}
sequence = ${phase.sequence}
learning_rate = 1e-3
evaluate_batches = 0
`;
}

/** Resident bytes of processes together, as `ps` tells them. Throws `CommandError` where there is none. */
export async function resident(pids: readonly number[]): Promise<number> {
  const ps = async () =>
    await new Deno.Command("ps", { args: ["-o", "rss=", "-p", pids.join(",")] }).output();
  const { stdout } = await ps().catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new CommandError(
      "Resident memory is read with `ps`, which is missing: install it (Debian: procps).",
    );
  });
  return new TextDecoder().decode(stdout).trim().split(/\s+/)
    .reduce((sum, kibibytes) => sum + 1024 * Number(kibibytes), 0);
}

/** The steps of a run's events, with the memory of `pids`. Throws where it did not come to its end. */
async function steps(events: AsyncIterable<Line>, pids: readonly number[] = []): Promise<Step[]> {
  const found: Step[] = [];
  let last: Line = {};
  for await (const line of events) {
    last = line;
    if (line.event !== "step") continue;
    const workers = line.workers as { sent: number }[];
    found.push({
      seconds: Number(line.seconds),
      bytes: workers.reduce((sum, { sent }) => sum + sent, 0),
      rss: pids.length > 0 && Number(line.step) % RESIDENT_EVERY === 0
        ? await resident(pids)
        : Number(line.rss ?? 0),
    });
  }
  if (last.event !== "done") throw new Error(`The run did not come to its end: ${JSON.stringify(last)}`);
  return found;
}

/** Another program of this folder as a process. */
function script(name: string, args: readonly string[], env: Record<string, string>): Deno.ChildProcess {
  return startModule(new URL(name, import.meta.url), args, { permissions, flags: [lean], env });
}

/** What a {@linkcode memoryMesh} is made of. */
export interface MemoryMesh {
  readonly workers: number;
  /** Default "auto". */
  readonly device?: "auto" | "reference";
  /** Threads of each worker's software adapter; default 1. */
  readonly threads?: number;
  /** The share of its device that each worker lends, and whether they say so; default: everything. */
  readonly lent?: { readonly shares: readonly number[]; readonly told: boolean };
  /** From worker to worker; default none. */
  readonly latencyMs?: number;
  /** What {@linkcode kernelSeconds} said of the device's speed; absent: each worker measures it, all at the same time. */
  readonly speeds?: string;
}

/** A {@linkcode MemoryMesh} as its process is told of it: files of recipes that are run one after the other, and a folder for runs. */
export interface ProcessMesh extends Omit<MemoryMesh, "threads"> {
  readonly recipes: readonly string[];
  readonly runs: string;
}

/**
 * Runs recipes one after the other on one mesh on memory links, in a process of its own, and gives their events. Relative paths
 * lie in `folder`, runs too. Throws where one does not come to its end.
 */
export async function* memoryMesh(
  recipes: readonly string[],
  folder: string,
  { threads = 1, ...mesh }: MemoryMesh,
): AsyncGenerator<Line> {
  const paths = recipes.map(() => join(folder, `${crypto.randomUUID()}.toml`));
  await Promise.all(recipes.map((recipe, i) => Deno.writeTextFile(paths[i], recipe)));
  const told: ProcessMesh = { ...mesh, recipes: paths, runs: folder };
  const process = script("mesh_process.ts", [JSON.stringify(told)], { LP_NUM_THREADS: String(threads) });
  let last: Line = {};
  for await (last of objects(process.stdout)) yield last;
  if (!(await process.status).success) {
    throw new Error(`A run did not come to its end: ${JSON.stringify(last)}`);
  }
}

/** The benches' mesh on memory links. */
export async function inMemory(
  folder: string,
  workers: number,
  threads: number,
  phase: Phase,
  speeds?: string,
): Promise<Step[]> {
  const text = recipe(`memory-${crypto.randomUUID()}`, workers, phase);
  return await steps(memoryMesh([text], folder, { workers, threads, ...(speeds ? { speeds } : {}) }));
}

/** The same mesh as processes, over werift. */
export async function overWerift(
  folder: string,
  workers: number,
  phase: Phase,
): Promise<Step[]> {
  const name = `werift-${crypto.randomUUID()}`, path = join(folder, `${name}.toml`);
  await Deno.writeTextFile(path, recipe(name, workers, phase));
  const up = volary("up", ["up", "--port", "0", "--state", folder]);
  const first = await up.events.next();
  const joins = Array.from(
    { length: workers },
    (_, w) =>
      volary(`w${w}`, [
        "join",
        String(first.value!.invite),
        "--name",
        `w${w}`,
        "--key",
        join(folder, `w${w}.key`),
      ], {
        env: { LP_NUM_THREADS: "1" },
      }),
  );
  try {
    for (const { events } of [up, ...joins]) {
      (async () => {
        for await (const _ of events);
      })().catch(() => {});
    }
    const run = volary("run", ["run", path, "--state", folder, "--workers", String(workers)]);
    return await steps(run.events, joins.map(({ pid }) => pid));
  } finally {
    await up.end();
    for (const running of joins) await running.end();
  }
}

/** Bytes a second of one werift data channel between two processes that are started as the mesh's are. */
export function rawWerift(): Promise<number> {
  return rawGoodput("werift", RAW_BYTES, [lean]);
}

/** What the kernels of a step take by themselves. */
export interface KernelSum {
  /** Of all workers together. */
  readonly seconds: number;
  /** How fast the device was, as a {@linkcode MemoryMesh} takes it: the same speeds give the same places. */
  readonly speeds: string;
}

/** The kernels of a mesh of so many workers, each call for itself, on one thread: see bench/mesh/kernel_sum.ts. */
export async function kernelSeconds(workers: number, phase: Phase): Promise<KernelSum> {
  const process = script("kernel_sum.ts", [JSON.stringify({ ...phase, workers })], { LP_NUM_THREADS: "1" });
  const { value } = await objects(process.stdout).next();
  if (!(await process.status).success) throw new Error("The kernels of a step could not be timed");
  return value as unknown as KernelSum;
}

/** A folder with the text that every recipe here trains on, removed after `work`. */
export async function withText<T>(work: (folder: string) => Promise<T>): Promise<T> {
  return await inTemporaryFolder(async (folder) => {
    const words = "the a of stone river light old house walks sees under over and then slowly 山 水 人 看"
      .split(" ");
    const sentence = (i: number) =>
      Array.from({ length: 40 }, (_, w) => words[(i * i + 7 * w * i + w) % 97 % words.length]);
    const text = Array.from({ length: 2_000 }, (_, i) => `${i} ${sentence(i).join(" ")}.`).join("\n\n");
    await Deno.writeTextFile(join(folder, "text.txt"), text);
    return await work(folder);
  });
}

/** Why {@linkcode onOneCore} did nothing, and what to do. */
export const NO_TASKSET = "taskset is missing or not permitted (Linux alone has it; Debian: util-linux)";

/**
 * Does `work` with this process and all that it starts on one core, where the system has `taskset`; elsewhere it
 * is not done, and the answer is undefined.
 */
export async function onOneCore<T>(work: () => Promise<T>): Promise<T | undefined> {
  const taskset = async (...args: string[]) => {
    const { success, stdout } = await new Deno.Command("taskset", { args: [...args, String(Deno.pid)] })
      .output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  };
  let before: string | undefined;
  try {
    before = (await taskset("-p"))?.trim().split(" ").at(-1);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  if (before === undefined) return undefined;
  await taskset("-a", "-p", "1");
  try {
    return await work();
  } finally {
    await taskset("-a", "-p", before);
  }
}
