/**
 * How many bytes a tensor is on a link, and which codec of those that are permitted carries it in the least time.
 *
 * @module
 */
import type { Codec } from "../../mesh/tensors/tensor_codec.ts";
import type { Cluster } from "./cluster.ts";

export type { Codec } from "../../mesh/tensors/tensor_codec.ts";

/** The codec of the link between the workers at two places of a cluster. */
export type LinkCodecs = (a: number, b: number) => Codec;

/** Values that share one f32 scale in the int8 codec. */
const int8Block = 64;
/** What zstd leaves of f32 words of activations and gradients (`deno task bench links --codecs`). */
const zstdLeaves = 0.85;

/** Bytes of `values` numbers, without the frame around them. */
export function codecBytes(values: number, codec: Codec): number {
  switch (codec) {
    case "f32":
      return 4 * values;
    case "zstd":
      return Math.ceil(4 * zstdLeaves * values);
    case "f16":
    case "bf16":
      return 2 * values;
    case "int8":
      return values + 4 * Math.ceil(values / int8Block);
  }
}

/** Most exact first. */
const byExactness: readonly Codec[] = ["f32", "zstd", "f16", "bf16", "int8"];
/**
 * Seconds for each number to write and read it, of one core of a slow machine: what links must save to be worth it
 * (`deno task bench links --codecs`).
 */
const costs: Readonly<Record<Codec, number>> = { f32: 0, zstd: 2e-8, f16: 6e-9, bf16: 4.5e-9, int8: 9.5e-9 };
/** What a less exact codec must win. */
const gain = 0.95;

/** Of the permitted codecs the one that takes least time at `rate` bytes a second; f32 where none wins anything. */
export function quickestCodec(permitted: readonly Codec[], rate: number): Codec {
  const seconds = (codec: Codec) => codecBytes(int8Block, codec) / rate + int8Block * costs[codec];
  const [first, ...others] = byExactness.filter((codec) => permitted.includes(codec));
  return others.reduce((best, codec) => seconds(codec) < gain * seconds(best) ? codec : best, first);
}

/** The codecs of a cluster's links: a name holds for all of them, of several each link takes the quickest. */
export function linkCodecs(cluster: Cluster, codec: Codec | readonly Codec[]): LinkCodecs {
  if (typeof codec === "string") return () => codec;
  const known = new Map<number, Codec>(), { workers } = cluster;
  return (a, b) => {
    const [from, to] = a < b ? [a, b] : [b, a], key = from * workers.length + to;
    let found = known.get(key);
    if (found === undefined) {
      const ends = [workers[from], workers[to]];
      const rate = Math.min(
        cluster.link(from, to)?.bandwidth ?? Infinity,
        ...ends.flatMap(({ up, down }) => [up, down]),
      );
      known.set(key, found = quickestCodec(codec, rate));
    }
    return found;
  };
}
