/**
 * Measuring the links between workers before a plan needs them: generations of a tiny model with one layer on each worker, in
 * orders in which every two workers are neighbours once. A single round of each sends frames of a known size over real
 * links, and what their ends report is learned like any step's.
 *
 * @module
 */
import type { Plan } from "../../mesh/plan.ts";
import type { Clock } from "../../mesh/runtime.ts";
import { configToJson, type ModelConfig, parseConfig } from "../../model/config.ts";
import { freshModel } from "../../model/init.ts";
import { CoordinatorError } from "../errors.ts";
import type { Batch } from "../batch.ts";
import { Generation } from "./generation.ts";
import { shareOwnership } from "../cost/holdings.ts";
import type { Member } from "../member.ts";
import { parameterSource } from "./parameters.ts";
import type { Paces } from "../planner/paces.ts";
import { schedulePlan } from "../schedule/schedule.ts";

/** A microbatch's activation: 256 KiB, sixteen pieces of a link's frames. */
const hidden = 64, batch = 16, sequence = 64;
/** With both directions 2 MiB cross each link: half a minute at the slowest rate that may be lent. */
const microbatches = 4;
/** Workers whose pairs are all tried: 120 links. More have their links measured by the steps that they make. */
const mostMeasured = 16;

/** What measuring needs of the coordinator. */
export interface LinkTrial {
  readonly clock: Clock;
  readonly members: readonly Member[];
  readonly paces: Pick<Paces, "learnLink">;
  readonly nextGeneration: () => number;
  /** Asks to stop. */
  readonly signal: AbortSignal;
}

/** Measures all links between the members. Throws {@linkcode CoordinatorError} where a worker cannot take part. */
export async function measureLinks(
  { clock, members, paces, nextGeneration, signal }: LinkTrial,
): Promise<void> {
  if (members.length < 2) {
    throw new CoordinatorError("There is no link to measure: fewer than two workers have joined.");
  }
  if (members.length > mostMeasured) {
    throw new CoordinatorError(
      `The links between ${members.length} workers are too many to try each: at most ${mostMeasured} workers are measured ` +
        "on demand. Steps of a run measure the links that they use.",
    );
  }
  const config = tinyModel(members.length);
  for (const order of everyPair(members.length)) {
    if (signal.aborted) return;
    const plan = chain(config, order.map((place) => members[place].id), nextGeneration());
    const generation = new Generation(
      plan,
      members,
      parameterSource(freshModel(config, 1), undefined),
      clock,
    );
    try {
      await generation.begin(false, () => {});
      generation.open(0, "train", data());
      for (const [worker, { report }] of await generation.collect(0)) {
        for (const link of report.links ?? []) paces.learnLink(worker, link.peer, link);
      }
    } finally {
      generation.end("the links are measured");
    }
  }
}

/** Orders of 0 to `count` - 1 in which every two are neighbours at least once: zigzags around a circle. */
export function everyPair(count: number): number[][] {
  // With an even number of places, half as many zigzags are enough; an odd count leaves one place empty.
  const places = count + count % 2;
  return Array.from(
    { length: places / 2 },
    (_, turn) =>
      Array.from(
        { length: places },
        (_, i) => (turn + places + (i % 2 === 0 ? -i / 2 : (i + 1) / 2)) % places,
      )
        .filter((place) => place < count),
  );
}

function tinyModel(layers: number): ModelConfig {
  return parseConfig({
    hidden_size: hidden,
    intermediate_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: 1,
    vocab_size: 2,
    tie_word_embeddings: false,
  });
}

/** A stage of one layer on each worker, in their order. */
function chain(config: ModelConfig, workers: readonly string[], generation: number): Plan {
  const stages = workers.map((worker, s) => ({
    worker,
    from: s,
    to: s + 1,
    embedding: s === 0,
    head: s === workers.length - 1,
    experts: [[]],
  }));
  const pipelines = [{ shares: [microbatches], stages }];
  return {
    run: "links",
    generation,
    model: configToJson(config),
    shape: { batch, sequence, microbatches },
    pipelines,
    owners: shareOwnership(config, 1),
    recompute: false,
    operations: schedulePlan(pipelines, false),
  };
}

/** Tokens of a vocabulary of two. */
function data(): Batch {
  const bytes = new Uint8Array(4 * microbatches * batch * sequence);
  return { ids: bytes, labels: bytes, validLabels: bytes.length / 4 };
}
