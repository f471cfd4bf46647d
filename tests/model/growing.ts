/** Small models and larger ones that they may grow into, drawn at random. */
import fc from "fast-check";
import type { ModelConfig } from "../../model/config.ts";
import { smallConfig } from "./models.ts";

/** Draws sizes of a source and how much more a target has. `least`: the smallest width; `noise`: what a growth may add. */
export const growthShapes = ({ least, noise }: { readonly least: number; readonly noise: number }) =>
  fc.record({
    d: fc.integer({ min: least, max: 10 }),
    hidden: fc.integer({ min: 0, max: 14 }),
    times: fc.integer({ min: 1, max: 3 }),
    f: fc.integer({ min: 1, max: 10 }),
    ffn: fc.integer({ min: 0, max: 14 }),
    groups: fc.integer({ min: 1, max: 3 }),
    slots: fc.integer({ min: 1, max: 3 }),
    more: fc.integer({ min: 0, max: 3 }),
    multi: fc.boolean(),
    head: fc.integer({ min: 1, max: 3 }),
    layers: fc.integer({ min: 1, max: 3 }),
    deeper: fc.integer({ min: 0, max: 3 }),
    bias: fc.boolean(),
    tied: fc.boolean(),
    untie: fc.boolean(),
    spread: fc.constantFrom(0, 0.5),
    noise: fc.constantFrom(0, noise),
    seed: fc.nat(1000),
  });
/** What one draw says. */
export type Shapes = ReturnType<typeof growthShapes> extends fc.Arbitrary<infer T> ? T : never;

/** The source and a target of width `hiddenSize`, with as many groups of heads, or with multi-head attention in both. */
export function growingPair(x: Shapes, hiddenSize: number): [ModelConfig, ModelConfig] {
  const source = smallConfig({
    hidden_size: x.d,
    intermediate_size: x.f,
    num_hidden_layers: x.layers,
    num_attention_heads: x.groups * (x.multi ? 1 : x.slots),
    num_key_value_heads: x.groups,
    head_dim: 2 * x.head,
    attention_bias: x.bias,
    tie_word_embeddings: x.tied,
  });
  const heads = x.multi ? x.groups + x.more : x.groups * (x.slots + x.more);
  return [source, {
    ...source,
    hiddenSize,
    intermediateSize: x.f + x.ffn,
    heads,
    kvHeads: x.multi ? heads : x.groups,
    layers: x.layers + x.deeper,
    tiedEmbeddings: x.tied && !x.untie,
  }];
}
