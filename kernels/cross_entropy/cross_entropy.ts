/**
 * The loss of a language model: cross-entropy of each row of logits against a label.
 *
 * @module
 */
import { FOURFOLD, SINGLE } from "../elements.ts";
import { defineKernel } from "../kernel.ts";
import { crossEntropyCost } from "./cost.ts";
import wgsl from "./cross_entropy.wgsl" with { type: "text" };

/** The largest word of an element, one word of a row, and 1 at the label's place in an element that starts at column c. */
const SINGLE_PICK = `fn largest(element: Element) -> f32 { return element; }
fn pick(first: u32, column: u32) -> f32 { return logits[first + column]; }
fn hit(c: u32, label: u32) -> Element { return select(0.0, 1.0, c == label); }
`;
const FOURFOLD_PICK =
  `fn largest(element: Element) -> f32 { return max(max(element.x, element.y), max(element.z, element.w)); }
fn pick(first: u32, column: u32) -> f32 { return logits[first + column / 4u][column % 4u]; }
fn hit(c: u32, label: u32) -> Element {
  return select(vec4f(0.0), vec4f(1.0), vec4u(4u * c) + vec4u(0u, 1u, 2u, 3u) == vec4u(label));
}
`;

/** The label of a row that does not count. */
export const IGNORED_LABEL = 0xffffffff;

/**
 * loss[t] = logsumexp(logits[t]) - logits[t, labels[t]], zero for {@linkcode IGNORED_LABEL}. With `gradient` = 1 the logits become
 * d(scale * sum of losses) / d logits in place (all zero in rows that do not count); with 0 they stay.
 */
export const crossEntropy = defineKernel({
  name: "crossEntropy",
  bindings: { logits: "f32 write", labels: "u32 read", scale: "f32 read", loss: "f32 write" },
  params: { rows: "u32", vocab: "u32", gradient: "u32" },
  variants: [
    {
      name: "scalar",
      wgsl: SINGLE + SINGLE_PICK + wgsl,
      grid: ({ rows }) => Math.ceil(rows / 32),
    },
    {
      name: "wide",
      wgsl: FOURFOLD + FOURFOLD_PICK + wgsl,
      grid: ({ rows }) => Math.ceil(rows / 32),
      elements: { logits: "vec4f" },
      fits: ({ vocab }) => vocab % 4 === 0,
    },
  ],
  cost: crossEntropyCost,
  reference({ logits, labels, scale, loss }, { rows, vocab, gradient }) {
    const factor = scale[0];
    for (let t = 0; t < rows; t++) {
      const row = t * vocab;
      const label = labels[t];
      if (label === IGNORED_LABEL) {
        loss[t] = 0;
        if (gradient) logits.fill(0, row, row + vocab);
        continue;
      }
      let largest = -Infinity;
      for (let c = 0; c < vocab; c++) if (logits[row + c] > largest) largest = logits[row + c];
      let sum = 0;
      for (let c = 0; c < vocab; c++) sum += Math.exp(logits[row + c] - largest);
      loss[t] = largest + Math.log(sum) - logits[row + label];
      if (!gradient) continue;
      const share = factor / sum;
      for (let c = 0; c < vocab; c++) {
        logits[row + c] = Math.exp(logits[row + c] - largest) * share - (c === label ? factor : 0);
      }
    }
  },
});
