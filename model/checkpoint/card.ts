/**
 * The model card of an exported model: README.md with the front matter that Hugging Face reads, and provenance in words.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";
import { countParameters } from "../tensors.ts";

/** Where a model comes from. All fields are for people. */
export interface Provenance {
  readonly name: string;
  /** Model or checkpoint that it began with; absent for a fresh one. */
  readonly source?: string;
  /** What was done, in order: "grown 4 -> 8 layers (identity)", "trained 2,000 steps". */
  readonly steps: readonly string[];
  /** Texts that it was trained on, with their licences where known. */
  readonly data: readonly string[];
  /** Measured losses: what was measured, and the value with its unit. */
  readonly losses: readonly (readonly [what: string, value: string])[];
  /** SPDX identifier; left out where absent. */
  readonly license?: string;
  /** Language codes such as "en", "zh". */
  readonly languages?: readonly string[];
}

/** README.md of a model's folder. */
export function modelCard(config: ModelConfig, provenance: Provenance): string {
  const { total, active } = countParameters(config), number = (n: number) => n.toLocaleString("en-US");
  const quoted = (text: string) => JSON.stringify(text);
  const line = (text: string) => text.replace(/\s+/g, " ").trim();
  const list = (items: readonly string[], none: string) =>
    items.length === 0 ? [none] : items.map((item) => `- ${line(item)}`);
  const experts = config.experts === 0 ? ["dense"] : [
    `${config.experts} experts, ${config.expertsPerToken} a token` +
    (config.sharedExpert > 0 ? `, beside a shared expert of width ${config.sharedExpert}` : "") +
    (config.ladderResidual ? ", ladder residual" : "") +
    ` (${number(active)} parameters active)`,
  ];
  return [
    "---",
    "library_name: transformers",
    "tags: [volary]",
    ...(provenance.license === undefined ? [] : [`license: ${quoted(provenance.license)}`]),
    ...(provenance.languages === undefined
      ? []
      : [`language: [${provenance.languages.map(quoted).join(", ")}]`]),
    "---",
    "",
    `# ${line(provenance.name)}`,
    "",
    `${number(total)} parameters: ${config.layers} layers of width ${config.hiddenSize}, ` +
    `${config.heads} query heads over ${config.kvHeads} key/value heads of size ${config.headDim}, ` +
    `MLP width ${config.intermediateSize}, vocabulary ${config.vocabSize}, ${experts[0]}; biases on ` +
    `q, k, v: ${config.attentionBias ? "yes" : "no"}; embedding and head ` +
    `${config.tiedEmbeddings ? "tied" : "untied"}. Architecture: ${config.modelType}.`,
    "",
    "## Where it comes from",
    "",
    provenance.source === undefined ? "Freshly initialised." : `Began as ${line(provenance.source)}.`,
    "",
    ...list(provenance.steps, "Nothing was done to it since."),
    "",
    "## Data",
    "",
    ...list(provenance.data, "None by this program."),
    "",
    "## Measured",
    "",
    ...(provenance.losses.length === 0 ? ["Nothing yet."] : [
      "| what | value |",
      "|---|---|",
      ...provenance.losses.map(([what, value]) => `| ${line(what)} | ${line(value)} |`),
    ]),
    "",
  ].join("\n");
}
