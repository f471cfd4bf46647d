/**
 * All-reduce between pipelines: gradients go to the worker of the pipeline that owns their tensors, which adds them to its
 * own in the pipelines' order, whenever they arrive; after a committed step its weights go back to all others, while the next
 * round begins. Pipelines that train locally exchange the progress of several steps in the same way.
 *
 * @module
 */
import { elements, type TensorSpec } from "../model/tensors.ts";
import { free } from "./buffers.ts";
import { PlanViolationError } from "./errors.ts";
import type { Inbox } from "./inbox.ts";
import { type Bundle, bundlesOf, namesOf } from "./replica_bundles.ts";
import type { RoundParts } from "./round_parts.ts";
import { piecesOf } from "./sizes.ts";

/** What travels between pipelines. */
type Sent = "replica-gradient" | "replica-weight" | "replica-delta";

/** The own part of the all-reduce of each round, or of the outer steps of local training. */
export class Replicas {
  readonly #bundles: readonly Bundle[];
  /** Bundles whose gradients have left, or wait for their layer, in this round. */
  readonly #left = new Set<Bundle>();
  #round = 0;
  #arrived: Promise<void> = Promise.resolve();

  /** `sending` gets each send that was begun. Throws as {@linkcode bundlesOf} does. */
  constructor(
    private readonly parts: Pick<
      RoundParts,
      "slice" | "sizes" | "compute" | "roads" | "inbox" | "aside" | "meter" | "residuals"
    >,
    private readonly sending: (sent: Promise<void>) => void,
  ) {
    this.#bundles = bundlesOf(parts.slice, parts.sizes.config);
  }

  /** Settles when the weights of the last {@linkcode spread} are all there. */
  get arrived(): Promise<void> {
    return this.#arrived;
  }

  /** A round begins. */
  enter(round: number): void {
    this.#round = round;
    this.#left.clear();
  }

  /** The last backward pass of a stage begins: each layer's gradients leave as soon as the pass has left the layer. */
  leaving(stage: number): void {
    const { slice: { stages, replication, local } } = this.parts, { from, to } = stages[stage];
    if (replication === undefined || local || replication.pipelines[replication.own].shares.length > 1) {
      return;
    }
    for (const bundle of this.#bundles.toReversed()) {
      const { layer, owned } = bundle;
      if (!owned && from <= layer && layer < to) this.#gradients(bundle, { stage, layer });
    }
  }

  #gradients(bundle: Bundle, after?: { readonly stage: number; readonly layer: number }): void {
    this.#left.add(bundle);
    const words = this.parts.compute.read("gradient", namesOf(bundle), after), round = this.#round;
    this.sending(words.then((words) => this.#send("replica-gradient", round, bundle, words)));
  }

  /** Sends the gradients that others own, and adds those of others to the own ones. Own passes have ended. */
  async reduce(): Promise<void> {
    const { compute, slice } = this.parts, own = slice.replication!.own;
    for (const bundle of this.#bundles) if (!bundle.owned && !this.#left.has(bundle)) this.#gradients(bundle);
    for await (const { tensors, of } of this.#gather("replica-gradient", this.parts.inbox)) {
      const pipelines = [...of.keys()].sort((a, b) => a - b);
      const list = (wanted: (pipeline: number) => boolean) =>
        pipelines.filter(wanted).map((pipeline) => of.get(pipeline)!);
      await compute.addGradients(
        tensors,
        list((pipeline) => pipeline < own),
        list((pipeline) => pipeline > own),
      );
    }
  }

  /** What other pipelines send of the tensors that are owned here, from the last layer down: whole tensors by pipeline. */
  async *#gather(
    what: Sent,
    inbox: Inbox,
  ): AsyncGenerator<{ tensors: string[]; of: Map<number, ArrayBuffer> }> {
    const owned = this.#bundles.filter((bundle) => bundle.owned);
    for (const layer of [...new Set(owned.map((bundle) => bundle.layer))].toReversed()) {
      // Tensors of a layer may come from several workers of a pipeline, as pipelines are divided unlike each other.
      const here = owned.filter((bundle) => bundle.layer === layer);
      const tensors = new Map(here.flatMap((bundle) => bundle.tensors.map((spec) => [spec.name, spec])));
      const order = [...tensors.values()].sort((a, b) => a.order - b.order);
      const of = new Map<number, ArrayBuffer>();
      for (const bundle of here) {
        const words = await this.parts.meter.waiting(this.#receive(what, bundle, inbox));
        if (bundle.tensors.length === order.length) of.set(bundle.pipeline, words);
        else {
          const all = of.get(bundle.pipeline) ?? new ArrayBuffer(bytesOf(order));
          of.set(bundle.pipeline, all);
          place(words, bundle.tensors, all, order);
        }
      }
      yield { tensors: order.map(({ name }) => name), of };
    }
  }

  /**
   * An outer step of local training: the one of this number, in which each pipeline's progress counts its weight.
   *
   * @throws {PlanViolationError} Where there is not one weight for each pipeline.
   */
  async outer(
    { index, weights }: { readonly index: number; readonly weights: readonly number[] },
  ): Promise<void> {
    const { compute, slice, aside, meter } = this.parts, { own, pipelines } = slice.replication!;
    if (weights.length !== pipelines.length) {
      throw new PlanViolationError(`An outer step weighs ${weights.length} of ${pipelines.length} pipelines`);
    }
    aside.enter(index, false);
    for (const bundle of this.#bundles) {
      if (bundle.owned) continue;
      const words = compute.deltas(namesOf(bundle));
      this.sending(words.then((words) => this.#send("replica-delta", index, bundle, words)));
    }
    for await (const { tensors, of } of this.#gather("replica-delta", aside)) {
      of.set(own, await compute.deltas(tensors));
      const deltas = pipelines.map((_, p) => of.get(p)!);
      await compute.outerStep(tensors, deltas, weights, slice.local!);
    }
    this.#sendWeights(index);
    for (const bundle of this.#bundles) {
      if (bundle.owned) continue;
      const words = await meter.waiting(this.#receive("replica-weight", bundle, aside));
      await compute.adopt(namesOf(bundle), words);
    }
  }

  /**
   * Begins to send the own updated weights and to take in those that others own. Both may outlast it: the device lets passes
   * wait at the layers whose weights have not come (see {@linkcode arrived}).
   */
  async spread(): Promise<void> {
    const { compute, aside } = this.parts, foreign = this.#bundles.filter(({ owned }) => !owned);
    aside.enter(this.#round, false);
    const expecting = compute.expect(foreign.flatMap(namesOf));
    this.#sendWeights(this.#round);
    await expecting;
    this.#arrived = this.#takeIn(foreign);
    this.#arrived.catch(() => {}); // the next round, or whoever waits for the device, hears of a failure
  }

  /** In order of the layers, as passes need them. */
  async #takeIn(bundles: readonly Bundle[]): Promise<void> {
    const { compute, aside } = this.parts;
    try {
      for (const bundle of bundles) {
        await compute.write(namesOf(bundle), await this.#receive("replica-weight", bundle, aside));
      }
    } catch (error) {
      compute.expect([]).catch(() => {}); // passes must not wait for the rest; a device that is gone has none
      throw error;
    }
  }

  #sendWeights(round: number): void {
    const same = new Map<string, { names: string[]; bundles: Bundle[] }>();
    for (const bundle of this.#bundles) {
      if (!bundle.owned) continue;
      // Replicas that are divided alike get the same words: they are read once.
      const names = namesOf(bundle), key = names.join("\n"), found = same.get(key);
      if (found) found.bundles.push(bundle);
      else same.set(key, { names, bundles: [bundle] });
    }
    for (const { names, bundles } of same.values()) {
      const words = this.parts.compute.read("weight", names);
      for (const bundle of bundles) {
        this.sending(
          words.then((words) => this.#send("replica-weight", round, bundle, words, bundles.length > 1)),
        );
      }
    }
  }

  async #send(
    what: Sent,
    round: number,
    bundle: Bundle,
    words: ArrayBuffer,
    shared = false,
  ): Promise<void> {
    const { roads, slice, residuals } = this.parts;
    const { peer, layer, words: count } = bundle;
    const rest = what === "replica-delta" ? residuals.of(bundle) : undefined;
    const heading = {
      what,
      round,
      evaluate: false,
      index: layer + 1,
      microbatch: slice.replication!.own,
    };
    await Promise.all(
      piecesOf(count).map(({ start, length }, sequence) =>
        roads.send(
          peer,
          "pipeline",
          { ...heading, sequence },
          [new Uint8Array(words, start * 4, length * 4)],
          rest?.subarray(start, start + length),
        )
      ),
    );
    if (!shared) free(words);
  }

  async #receive(what: Sent, bundle: Bundle, inbox: Inbox): Promise<ArrayBuffer> {
    const { peer, pipeline, layer } = bundle, pieces = piecesOf(bundle.words);
    const piece = (sequence: number) =>
      inbox.take({ what, index: layer + 1, microbatch: pipeline, sequence, peer });
    if (pieces.length === 1) return (await piece(0)).buffer;
    const words = new Uint8Array(bundle.words * 4);
    for (const [sequence, { start }] of pieces.entries()) {
      const received = await piece(sequence);
      words.set(received, start * 4);
      free(received.buffer);
    }
    return words.buffer;
  }
}

function bytesOf(tensors: readonly TensorSpec[]): number {
  return tensors.reduce((sum, { shape }) => sum + 4 * elements(shape), 0);
}

/** Copies tensors that lie one behind the other to their places among more. */
function place(
  words: ArrayBuffer,
  tensors: readonly TensorSpec[],
  all: ArrayBuffer,
  order: readonly TensorSpec[],
) {
  const from = new Map<string, number>();
  let at = 0;
  for (const { name, shape } of tensors) {
    from.set(name, at);
    at += 4 * elements(shape);
  }
  at = 0;
  for (const { name, shape } of order) {
    const bytes = 4 * elements(shape), start = from.get(name);
    if (start !== undefined) new Uint8Array(all, at, bytes).set(new Uint8Array(words, start, bytes));
    at += bytes;
  }
}
