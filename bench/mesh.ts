/**
 * What the mesh costs: a three-worker mesh on memory links beside one worker that has both cores, the same mesh as
 * processes over werift beside what memory links and raw werift predict, and memory over 300 steps.
 *
 * Every mesh is a process (or several) of its own, because a software adapter takes its number of threads from the
 * environment: LP_NUM_THREADS=1 for each worker of a mesh, 2 for the lone worker.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { size, table } from "../coordinator/report.ts";
import { lean, volary } from "../demo/processes.ts";

/** One line for the list of benches. */
export const title =
  "a three-worker mesh against one worker, werift against memory links, memory over 300 steps";

/** Options of every bench. */
export interface BenchOptions {
  readonly json: boolean;
}

/** Steps of each measured run, and how many of them come before the devices are warm. */
const STEPS = 24, WARM = 6;
/** Steps between which memory may not grow. */
const EARLY = 50, LATE = 300, measured = new Set([EARLY, LATE]);
/** Each kind of mesh runs this often, in turn: another process on the machine then disturbs all kinds alike. */
const TURNS = 2;
const RAW_BYTES = 32 << 20;

const permissions = [
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys=networkInterfaces,hostname,uid,statfs",
];

type Line = Record<string, unknown>;

/** A step as its run reports it. */
interface Step {
  readonly seconds: number;
  /** Bytes that all workers sent to each other. */
  readonly bytes: number;
  readonly rss: number;
}

/** The demo's model in the demo's places: two stages and a host of experts. */
function recipe(
  name: string,
  workers: number,
  phase: { steps: number; batch: number; sequence: number },
): string {
  return `
name = "${name}"
[model]
model_type = "aquilamoe"
vocab_size = 259
hidden_size = 128
intermediate_size = 64
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 32
attention_bias = true
tie_word_embeddings = false
num_local_experts = 8
num_experts_per_tok = 2
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
microbatches = 4
sequence = ${phase.sequence}
learning_rate = 1e-3
evaluate_batches = 0
`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<Line> {
  let rest = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + piece).split("\n");
    rest = whole.pop()!;
    for (const line of whole) if (line.startsWith("{")) yield JSON.parse(line);
  }
}

/** Resident bytes of processes together, as `ps` tells them; 0 on Windows, which has none. */
async function resident(pids: readonly number[]): Promise<number> {
  if (Deno.build.os === "windows") return 0;
  const { stdout } = await new Deno.Command("ps", { args: ["-o", "rss=", "-p", pids.join(",")] }).output();
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
      rss: pids.length > 0 && measured.has(Number(line.step)) ? await resident(pids) : Number(line.rss ?? 0),
    });
  }
  if (last.event !== "done") throw new Error(`The run did not come to its end: ${JSON.stringify(last)}`);
  return found;
}

function script(
  name: string,
  args: readonly string[],
  stdin: "null" | "piped",
  env: Record<string, string> = {},
) {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", lean, ...permissions, fromFileUrl(new URL(name, import.meta.url)), ...args],
    stdin,
    stdout: "piped",
    stderr: "inherit",
    env,
  }).spawn();
}

/** A mesh on memory links. */
async function inMemory(
  folder: string,
  workers: number,
  threads: number,
  phase: Parameters<typeof recipe>[2],
) {
  const name = `memory-${crypto.randomUUID()}`, path = join(folder, `${name}.toml`);
  await Deno.writeTextFile(path, recipe(name, workers, phase));
  const process = script("mesh_process.ts", [path, folder, String(workers)], "null", {
    LP_NUM_THREADS: String(threads),
  });
  const found = await steps(lines(process.stdout));
  await process.status;
  return found;
}

/** The same mesh as processes, over werift. */
async function overWerift(
  folder: string,
  workers: number,
  phase: Parameters<typeof recipe>[2],
): Promise<Step[]> {
  const name = `werift-${crypto.randomUUID()}`, path = join(folder, `${name}.toml`);
  await Deno.writeTextFile(path, recipe(name, workers, phase));
  const up = volary("up", ["up", "--port", "0", "--state", folder]);
  const first = await up.events.next();
  const joins = Array.from(
    { length: workers },
    (_, w) =>
      volary(`w${w}`, ["join", String(first.value!.invite), "--name", `w${w}`], {
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

/** Bytes a second of one werift data channel between two processes, without anything of ours. */
async function rawGoodput(): Promise<number> {
  const [sender, receiver] = ["send", "receive"].map((role) =>
    script("raw_werift.ts", [role, String(RAW_BYTES)], "piped")
  );
  const told = { sender: lines(sender.stdout), receiver: lines(receiver.stdout) };
  const pass = async (line: Line | undefined, to: Deno.ChildProcess) => {
    const writer = to.stdin.getWriter();
    await writer.write(new TextEncoder().encode(JSON.stringify(line) + "\n"));
    writer.releaseLock();
  };
  await pass((await told.sender.next()).value, receiver);
  await pass((await told.receiver.next()).value, sender);
  const { value } = await told.receiver.next();
  for (const process of [sender, receiver]) {
    try {
      process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await process.stdin.close().catch(() => {});
    await process.status;
  }
  return Number((value as Line).bytesPerSecond);
}

/** Measures and prints; with `json` one object on stdout. */
export async function run({ json }: BenchOptions): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "volary-bench-" });
  try {
    const words = "the a of stone river light old house walks sees under over and then slowly 山 水 人 看"
      .split(" ");
    const sentence = (i: number) =>
      Array.from({ length: 40 }, (_, w) => words[(i * i + 7 * w * i + w) % 97 % words.length]);
    const text = Array.from({ length: 2_000 }, (_, i) => `${i} ${sentence(i).join(" ")}.`).join("\n\n");
    await Deno.writeTextFile(join(folder, "text.txt"), text);
    const phase = { steps: STEPS, batch: 8, sequence: 128 };
    const kinds: Record<"one" | "memory" | "werift", Step[]> = { one: [], memory: [], werift: [] };
    const raw: number[] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      kinds.one.push(...(await inMemory(folder, 1, 2, phase)).slice(WARM));
      kinds.memory.push(...(await inMemory(folder, 3, 1, phase)).slice(WARM));
      raw.push(await rawGoodput());
      kinds.werift.push(...(await overWerift(folder, 3, phase)).slice(WARM));
    }
    const seconds = (kind: keyof typeof kinds) => median(kinds[kind].map((step) => step.seconds));
    const small = { steps: LATE, batch: 4, sequence: 32 };
    const long = await overWerift(folder, 3, small), packed = await inMemory(folder, 3, 1, small);
    const bytes = median(kinds.werift.map((step) => step.bytes)), goodput = median(raw);
    const predicted = seconds("memory") + bytes / goodput;
    const result = {
      oneSeconds: seconds("one"),
      memorySeconds: seconds("memory"),
      /** Speed of the mesh as a share of the lone worker's; wanted: at least 0.80. */
      memoryShare: seconds("one") / seconds("memory"),
      weriftSeconds: seconds("werift"),
      bytesPerStep: bytes,
      rawBytesPerSecond: goodput,
      /** Step over werift against memory-link step + bytes / raw goodput; wanted: at most 1.2. */
      weriftRatio: seconds("werift") / predicted,
      rssEarly: long[EARLY - 1].rss,
      rssLate: long[LATE - 1].rss,
      /** Resident memory of the three worker processes at step 300 against step 50; wanted: at most 1.05. */
      rssRatio: long[LATE - 1].rss / long[EARLY - 1].rss,
      /** The same of one process that has the coordinator and all three workers in it. */
      packedRssLate: packed[LATE - 1].rss,
      packedRssRatio: packed[LATE - 1].rss / packed[EARLY - 1].rss,
    };
    if (json) return console.log(JSON.stringify(result));
    const ms = (s: number) => `${(s * 1000).toFixed(0)} ms`;
    for (
      const line of table([
        ["one worker, both cores", ms(result.oneSeconds), ""],
        [
          "three workers, memory links",
          ms(result.memorySeconds),
          `${result.memoryShare.toFixed(2)} of it (wanted 0.80)`,
        ],
        [
          "three workers, werift",
          ms(result.weriftSeconds),
          `${result.weriftRatio.toFixed(2)} x (memory links + ${size(bytes)} at ${
            size(goodput)
          }/s) (wanted 1.2)`,
        ],
        [
          `resident at step ${LATE}, worker processes`,
          size(result.rssLate),
          `${result.rssRatio.toFixed(3)} of step ${EARLY} (wanted 1.05)`,
        ],
        [
          `the same, everything in one process`,
          size(result.packedRssLate),
          `${result.packedRssRatio.toFixed(3)} of step ${EARLY}`,
        ],
      ])
    ) console.log(line);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
