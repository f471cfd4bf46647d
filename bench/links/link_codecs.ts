/**
 * Speed of each codec on normally distributed words, what it saves and what it costs in precision.
 *
 * @module
 */
import { CODECS, decodeWords, encodeWords } from "../../mesh/tensors/tensor_codec.ts";
import { zstd } from "../../mesh/tensors/zstd_deno.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import type { Output } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";
import { bytesText, type Failures, rate } from "./link_text.ts";

/** Words that codecs are measured on, and how often. */
const WORDS = 1 << 20, ROUNDS = 9;

/** Measures every codec on one thread. Nothing is wanted of them. */
export function codecs({ record, print }: Output): Failures {
  // Activations of a trained model have a few large channels; zstd finds the exponents that come again and again.
  const values = Float32Array.from({ length: WORDS }, normal(1)), bytes = new Uint8Array(values.buffer);
  print(
    `\ncodecs on ${bytesText(bytes.length)} of f32 words, one thread, medians of ${ROUNDS}:`,
    "  codec   writes        reads         bytes   error (RMS, of the words' own)",
  );
  for (const codec of CODECS) {
    if (codec === "f32") continue;
    const writes: number[] = [], reads: number[] = [];
    let encoded = bytes, back = bytes;
    for (let round = 0; round < ROUNDS; round++) {
      const began = performance.now();
      encoded = encodeWords(codec, bytes, zstd) ?? bytes;
      const written = performance.now();
      back = encoded === bytes ? bytes : decodeWords(codec, encoded, bytes.length, zstd);
      writes.push(bytes.length / (written - began) * 1_000);
      reads.push(bytes.length / (performance.now() - written) * 1_000);
    }
    const came = new Float32Array(back.buffer);
    let wrong = 0, all = 0;
    for (let i = 0; i < values.length; i++) {
      wrong += (came[i] - values[i]) ** 2;
      all += values[i] ** 2;
    }
    const error = Math.sqrt(wrong / all), share = encoded.length / bytes.length;
    const write = median(writes), read = median(reads);
    record({ codec, write, read, share, error });
    const columns = [
      codec.padEnd(8),
      rate(write).padEnd(14),
      rate(read).padEnd(14),
      share.toFixed(2).padEnd(8),
    ];
    print(`  ${columns.join("")}${error === 0 ? "none" : error.toExponential(1)}`);
  }
  return [];
}

/** Draws from the normal distribution (Box and Muller), by a seeded generator. */
function normal(seed: number): () => number {
  const chance = new VirtualClock(seed);
  return () => Math.sqrt(-2 * Math.log(1 - chance.uniform())) * Math.cos(2 * Math.PI * chance.uniform());
}
