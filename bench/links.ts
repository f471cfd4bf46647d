/**
 * What a link costs: goodput of frames over werift between two processes against the same data channel without a link,
 * in the same run, and of links in memory.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import type { FrameHeader } from "../mesh/frame.ts";
import { type Link, openLink } from "../mesh/link.ts";
import { memoryChannelPair } from "../mesh/memory_transport.ts";

/** One line for the list of benches. */
export const title = "links: frames over werift and in memory, against a raw data channel";

const MIB = 1 << 20;
const SIZES = [64 << 10, MIB, 8 * MIB];
/** Bytes of one measurement, rounds that are taken, and bytes of one in memory. */
const TOTAL = 24 * MIB, ROUNDS = 3, MEMORY_TOTAL = 512 * MIB;

/** Options of every bench. */
export interface BenchOptions {
  readonly json: boolean;
}

/** Measures and prints. */
export async function run({ json }: BenchOptions): Promise<void> {
  const raw: number[] = [], links = SIZES.map((): number[] => []), memory = SIZES.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    raw.push(await between("raw_werift.ts", [TOTAL]));
    for (const [i, size] of SIZES.entries()) {
      links[i].push(await between("link_process.ts", [TOTAL / size + 1, size]));
      memory[i].push(await inMemory(MEMORY_TOTAL / size, size));
    }
  }
  const base = median(raw);
  const rows = SIZES.map((frameBytes, i) => ({
    frameBytes,
    werift: median(links[i]),
    ofRaw: median(links[i]) / base,
    memory: median(memory[i]),
  }));
  if (json) return console.log(JSON.stringify({ raw: base, links: rows }));
  console.log(
    `${title}\n\nmedians of ${ROUNDS} rounds, two processes, loopback; a raw data channel: ${rate(base)}\n`,
  );
  console.log("frame       link over werift    of raw    link in memory");
  for (const { frameBytes, werift, ofRaw, memory } of rows) {
    const size = `${frameBytes >> 10} KiB`;
    console.log(`${size.padEnd(12)}${rate(werift).padEnd(20)}${ofRaw.toFixed(2).padEnd(10)}${rate(memory)}`);
  }
}

const rate = (bytesPerSecond: number) => `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
const median = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Runs a script as sender and as receiver, relays their lines, and answers with the receiver's bytes per second. */
async function between(script: string, numbers: number[]): Promise<number> {
  const start = (role: string) =>
    new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-net",
        "--allow-env",
        "--allow-sys=networkInterfaces",
        fromFileUrl(new URL(script, import.meta.url)),
        role,
        ...numbers.map(String),
      ],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
  const sender = start("send"), receiver = start("receive");
  const toSender = sender.stdin.getWriter(), toReceiver = receiver.stdin.getWriter();
  const relay = (async () => {
    for await (const line of lines(sender.stdout)) {
      await toReceiver.write(new TextEncoder().encode(line + "\n"));
    }
  })();
  let result = NaN;
  for await (const line of lines(receiver.stdout)) {
    const value = JSON.parse(line) as { bytesPerSecond?: number };
    if (value.bytesPerSecond === undefined) await toSender.write(new TextEncoder().encode(line + "\n"));
    else result = value.bytesPerSecond;
  }
  try {
    sender.kill();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended by itself
  }
  await Promise.all([sender.status, receiver.status, relay]);
  await Promise.allSettled([toSender.close(), toReceiver.close()]);
  if (!(result > 0)) throw new Error(`${script} measured nothing`);
  return result;
}

async function* lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + piece).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}

/** Bytes per second of `frames` frames from one link to another in this thread. */
async function inMemory(frames: number, frameBytes: number): Promise<number> {
  const clock = denoRuntime(), [x, y] = memoryChannelPair();
  const options = {
    clock,
    run: "bench",
    generation: 1,
    lanes: { pipeline: frameBytes, request: 0, reply: 0 },
  };
  const [a, b]: Link[] = await Promise.all([
    openLink(x, { ...options, self: "a", peer: "b" }),
    openLink(y, { ...options, self: "b", peer: "a" }),
  ]);
  b.onframe = (_lane, _header, _payload, consumed) => consumed();
  const payload = new Uint8Array(frameBytes), began = performance.now();
  const common = {
    what: "activation",
    evaluate: false,
    generation: 1,
    round: 0,
    index: 0,
    microbatch: 0,
  } as const;
  for (let sequence = 0; sequence < frames; sequence++) {
    const header: FrameHeader = { ...common, sequence };
    await a.send("pipeline", header, [payload]);
  }
  await a.close();
  return frames * frameBytes / (performance.now() - began) * 1_000;
}
