/**
 * What a link costs and what it carries: goodput of frames between two processes against the same library's data channel
 * without a link, in the same run; a consumer that stands still; long and lossy roads; codecs.
 *
 * @module
 */
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import type { FrameHeader } from "../../mesh/tensors/frame.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import { frameCost, LaneBounds } from "../../mesh/link/lanes.ts";
import { type Link, openLink } from "../../mesh/link/link.ts";
import { CODECS, decodeWords, encodeWords } from "../../mesh/tensors/tensor_codec.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { zstd } from "../../mesh/tensors/zstd_deno.ts";
import { memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { median } from "../harness/statistics.ts";
import { ends } from "./link_pair.ts";
import { faults } from "./link_faults.ts";
import { type Failures, roads } from "./link_roads.ts";
import type { Received } from "./link_process.ts";
import { rawGoodput } from "./raw_goodput.ts";
import type { BenchOptions } from "../main.ts";

/** One line for the list of benches. */
export const title =
  "links against raw data channels; --frames[=TRANSPORT], --stall, --codecs, --roads[=MS,LOSS], --faults: one part";

const MIB = 1 << 20;
const SIZES = [64 << 10, MIB, 8 * MIB];
/** Rounds of which medians are taken, and bytes of one measurement. */
const ROUNDS = 3, TOTAL = { werift: 24 * MIB, native: 192 * MIB, memory: 512 * MIB };
/** A consumer that stands still: for how long, ms, and the frames that are sent meanwhile. */
const STALL_MS = 10_000, STALL_FRAME = MIB;
/** Words that codecs are measured on, and how often. */
const CODEC_WORDS = 1 << 20, CODEC_ROUNDS = 9;

/** Measures and prints. */
export async function run({ json, args }: BenchOptions): Promise<boolean> {
  const parts = {
    "--frames": frames,
    "--stall": stall,
    "--codecs": codecs,
    "--roads": roads,
    "--faults": faults,
  };
  const failures: Failures = [];
  for (const [flag, part] of Object.entries(parts)) {
    const asked = args.find((arg) => arg === flag || arg.startsWith(`${flag}=`));
    if (args.length > 0 && asked === undefined) continue;
    failures.push(...await part(json, asked?.slice(flag.length + 1) || undefined));
  }
  for (const failure of failures) console.error(`missed: ${failure}`);
  return failures.length === 0;
}

const rate = (bytesPerSecond: number) => `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
const size = (bytes: number) => bytes < MIB ? `${bytes >> 10} KiB` : `${bytes / MIB} MiB`;

/** Goodput of links over each transport, or `only` one, against the library alone. */
async function frames(json: boolean, only?: string): Promise<Failures> {
  const failures: Failures = [], raws: Record<string, number> = {};
  for (const transport of ["werift", "native"] as const) {
    if (only !== undefined && only !== transport) continue;
    const raw: number[] = [], links = SIZES.map((): number[] => []), total = TOTAL[transport];
    for (let round = 0; round < ROUNDS; round++) {
      raw.push(await rawGoodput(transport, total));
      for (const [i, frameBytes] of SIZES.entries()) {
        links[i].push(
          (await measure({ transport, frameBytes, frames: total / frameBytes + 1 })).bytesPerSecond,
        );
      }
    }
    const base = raws[transport] = median(raw);
    if (!json) console.log(`\n${transport}: a raw data channel carries ${rate(base)} (median of ${ROUNDS})`);
    for (const [i, frameBytes] of SIZES.entries()) {
      const bytesPerSecond = median(links[i]), ofRaw = bytesPerSecond / base;
      if (json) console.log(JSON.stringify({ transport, frameBytes, bytesPerSecond, raw: base, ofRaw }));
      else {console.log(
          `  frames of ${size(frameBytes).padEnd(8)}${rate(bytesPerSecond).padEnd(14)}${
            ofRaw.toFixed(2)
          } of raw`,
        );}
      if (ofRaw < 0.95) {
        failures.push(`${transport}, frames of ${size(frameBytes)}: ${ofRaw.toFixed(2)} of raw, goal 0.95`);
      }
    }
  }
  const times = raws.native / raws.werift;
  if (only !== undefined) return failures;
  if (times < 4) failures.push(`native is ${times.toFixed(1)} times as fast as werift, goal 4`);
  const memory = await inTurn(SIZES, (bytes) => inMemory(TOTAL.memory / bytes, bytes));
  if (json) console.log(JSON.stringify({ nativeOfWerift: times, memory }));
  else {
    console.log(`\nnative against werift: ${times.toFixed(1)} times`);
    console.log(
      `in memory, one thread: ${memory.map((each, i) => `${size(SIZES[i])} ${rate(each)}`).join(", ")}`,
    );
  }
  return failures;
}

/** A consumer that takes nothing for ten seconds: what its end holds, and how large both processes get. */
async function stall(json: boolean): Promise<Failures> {
  const failures: Failures = [], bounds = new LaneBounds(STALL_FRAME);
  if (!json) {
    console.log(`\na consumer that stands still for ${STALL_MS / 1_000} s, frames of ${size(STALL_FRAME)}:`);
  }
  for (const transport of ["werift", "native"] as const) {
    const common = { transport, frameBytes: STALL_FRAME };
    const quiet = await ends({ ...common, frames: 8 }, common);
    const stalled = await ends({ ...common, frames: 40 }, { ...common, stall: STALL_MS });
    const held = stalled.received.mostHeld / frameCost(STALL_FRAME),
      most = bounds.window / frameCost(STALL_FRAME);
    const more = stalled.rss.map((rss, i) => rss - quiet.rss[i]);
    if (json) {
      console.log(
        JSON.stringify({ transport, held: stalled.received.mostHeld, window: bounds.window, more }),
      );
    } else {
      console.log(
        `  ${transport.padEnd(8)}held at most ${held.toFixed(1)} frames of ${
          most.toFixed(1)
        } granted; resident memory beyond a ` +
          `short run: receiver ${rss(more[1])}, sender ${
            rss(more[0])
          }; ${stalled.received.frames} frames, ${stalled.received.wrong} wrong`,
      );
    }
    if (held > most) {
      failures.push(`${transport}: ${held.toFixed(1)} frames held, ${most.toFixed(1)} granted`);
    }
    if (stalled.received.frames !== 40 || stalled.received.wrong > 0) {
      failures.push(`${transport}: frames lost or doubled`);
    }
  }
  return failures;
}

/** Speed of each codec on normally distributed words, what it saves and what it costs in precision. */
function codecs(json: boolean): Promise<Failures> {
  const values = Float32Array.from({ length: CODEC_WORDS }, normal(1)), bytes = new Uint8Array(values.buffer);
  // Activations of a trained model have a few large channels; zstd finds the exponents that come again and again.
  if (!json) {
    console.log(`\ncodecs on ${size(bytes.length)} of f32 words, one thread, medians of ${CODEC_ROUNDS}:`);
  }
  if (!json) console.log("  codec   writes        reads         bytes   error (RMS, of the words' own)");
  for (const codec of CODECS) {
    if (codec === "f32") continue;
    const write: number[] = [], read: number[] = [];
    let encoded = bytes, back = bytes;
    for (let round = 0; round < CODEC_ROUNDS; round++) {
      const began = performance.now();
      encoded = encodeWords(codec, bytes, zstd) ?? bytes;
      const written = performance.now();
      back = encoded === bytes ? bytes : decodeWords(codec, encoded, bytes.length, zstd);
      write.push(bytes.length / (written - began) * 1_000);
      read.push(bytes.length / (performance.now() - written) * 1_000);
    }
    const came = new Float32Array(back.buffer);
    let wrong = 0, all = 0;
    for (let i = 0; i < values.length; i++) {
      wrong += (came[i] - values[i]) ** 2;
      all += values[i] ** 2;
    }
    const error = Math.sqrt(wrong / all), share = encoded.length / bytes.length;
    if (json) console.log(JSON.stringify({ codec, write: median(write), read: median(read), share, error }));
    else {
      console.log(
        `  ${codec.padEnd(8)}${rate(median(write)).padEnd(14)}${rate(median(read)).padEnd(14)}${
          share.toFixed(2).padEnd(8)
        }` +
          (error === 0 ? "none" : error.toExponential(1)),
      );
    }
  }
  return Promise.resolve([]);
}

/** Draws from the normal distribution (Box and Muller), by a seeded generator. */
function normal(seed: number): () => number {
  const chance = new VirtualClock(seed);
  return () => Math.sqrt(-2 * Math.log(1 - chance.uniform())) * Math.cos(2 * Math.PI * chance.uniform());
}

const rss = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`;

async function measure(options: Parameters<typeof ends>[0]): Promise<Received> {
  return (await ends(options, options)).received;
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
  const credentials = await localCredentials(clock, "bench", ["a", "b"]);
  const [a, b]: Link[] = await Promise.all([
    openLink(x, { ...options, self: "a", peer: "b", credentials: credentials.a }),
    openLink(y, { ...options, self: "b", peer: "a", credentials: credentials.b }),
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

/** One after the other: they would disturb each other. */
async function inTurn<T, U>(items: readonly T[], measure: (item: T) => Promise<U>): Promise<U[]> {
  const results: U[] = [];
  for (const item of items) results.push(await measure(item));
  return results;
}
