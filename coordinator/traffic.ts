/**
 * How many bytes a tensor is on a link.
 *
 * @module
 */

/** Ways to write numbers on a link. */
export type Codec = "f32" | "f16" | "bf16" | "int8";

/** All codecs, plainest first. */
export const codecs: readonly Codec[] = ["f32", "f16", "bf16", "int8"];

/** Values that share one f32 scale in the int8 codec. */
const int8Block = 64;

/** Bytes of `values` numbers, without the frame around them. */
export function codecBytes(values: number, codec: Codec): number {
  switch (codec) {
    case "f32":
      return 4 * values;
    case "f16":
    case "bf16":
      return 2 * values;
    case "int8":
      return values + 4 * Math.ceil(values / int8Block);
  }
}
