/**
 * Goodput of frames over links between two processes, beside the same library's data channel without a link.
 *
 * @module
 */
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { localHeader, localLinks } from "../../mesh/transports/local_links.ts";
import { memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import type { Output } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";
import { ends } from "./link_pair.ts";
import { bytesText, type Failures, rate } from "./link_text.ts";
import { rawGoodput } from "./raw_goodput.ts";

const MIB = 1 << 20;
const SIZES = [64 << 10, MIB, 8 * MIB];
/** Rounds of which medians are taken, and bytes of one measurement. */
const ROUNDS = 3, TOTAL = { werift: 24 * MIB, native: 192 * MIB, memory: 512 * MIB };
/** Share of a raw channel's goodput that a link must have, and how many times as fast as werift native must be. */
const LEAST = { share: 0.95, times: 4 };

/** Transports that have a library without us. */
export const TRANSPORTS = ["werift", "native"] as const;

/** Goodput of links over each transport, or `only` one; without `only` also in memory. */
export async function frames({ record, print }: Output, only?: string): Promise<Failures> {
  const failures: Failures = [], raws: Record<string, number> = {};
  for (const transport of TRANSPORTS) {
    if (only !== undefined && only !== transport) continue;
    const raw: number[] = [], links = SIZES.map((): number[] => []), total = TOTAL[transport];
    for (let round = 0; round < ROUNDS; round++) {
      raw.push(await rawGoodput(transport, total));
      for (const [i, frameBytes] of SIZES.entries()) {
        const common = { transport, frameBytes, frames: total / frameBytes + 1 };
        links[i].push((await ends(common, common)).received.bytesPerSecond);
      }
    }
    const base = raws[transport] = median(raw);
    print(`\n${transport}: a raw data channel carries ${rate(base)} (median of ${ROUNDS})`);
    for (const [i, frameBytes] of SIZES.entries()) {
      const bytesPerSecond = median(links[i]), ofRaw = bytesPerSecond / base;
      record({ transport, frameBytes, bytesPerSecond, raw: base, ofRaw });
      const size = bytesText(frameBytes);
      print(`  frames of ${size.padEnd(8)}${rate(bytesPerSecond).padEnd(14)}${ofRaw.toFixed(2)} of raw`);
      if (ofRaw < LEAST.share) {
        failures.push(`${transport}, frames of ${size}: ${ofRaw.toFixed(2)} of raw, goal ${LEAST.share}`);
      }
    }
  }
  if (only !== undefined) return failures;
  const times = raws.native / raws.werift, memory: number[] = [];
  if (times < LEAST.times) {
    failures.push(`native is ${times.toFixed(1)} times as fast as werift, goal ${LEAST.times}`);
  }
  for (const bytes of SIZES) memory.push(await inMemory(TOTAL.memory / bytes, bytes));
  record({ nativeOfWerift: times, memory });
  print(
    `\nnative against werift: ${times.toFixed(1)} times`,
    `in memory, one thread: ${memory.map((each, i) => `${bytesText(SIZES[i])} ${rate(each)}`).join(", ")}`,
  );
  return failures;
}

/** Bytes per second of `frames` frames from one link to another in this thread. */
async function inMemory(frames: number, frameBytes: number): Promise<number> {
  const lanes = { pipeline: frameBytes, request: 0, reply: 0 };
  const [a, b] = await localLinks(memoryChannelPair(), denoRuntime(), lanes);
  b.onframe = (_lane, _header, _payload, consumed) => consumed();
  const payload = new Uint8Array(frameBytes), began = performance.now();
  for (let sequence = 0; sequence < frames; sequence++) {
    await a.send("pipeline", localHeader(sequence), [payload]);
  }
  await a.close();
  return frames * frameBytes / (performance.now() - began) * 1_000;
}
