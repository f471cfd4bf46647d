/**
 * The executor: one round of a worker is one pass through its list of operations, which start in the listed order. Sends
 * leave while the next operation computes, and a forward pass may begin while the pass before it still waits for another
 * worker's experts. Backward passes of a worker follow each other strictly: that is the order in which gradients add up.
 *
 * @module
 */
import { type Operation, ownMicrobatches } from "../mesh/plan.ts";
import { Between } from "./between.ts";
import { Replicas } from "./replicas.ts";
import { checkedData, type Data, type Round } from "./round_data.ts";
import { type Decision, type RoundParts, stageOf } from "./round_parts.ts";
import { Tied } from "./tied.ts";
import { Transfers } from "./transfers.ts";

/** A pass over one microbatch. */
interface Pass {
  readonly stage: number;
  readonly microbatch: number;
}

/** Passes under way at a time: one that waits for experts elsewhere, and one that computes meanwhile. */
const PASSES = 2;

/** Runs rounds, one after the other. */
export class RoundExecutor {
  readonly #between: Between;
  /** Passes of this round that have not ended, and all of them by pass, stage and microbatch. */
  readonly #running = new Set<Promise<unknown>>();
  readonly #passes = new Map<string, Promise<unknown>>();
  #lastBackward: Promise<unknown> = Promise.resolve();
  /** Sends of this round: rounds without a vote must not run ahead of their transfers without end. */
  #sends: Promise<unknown>[] = [];
  #decision: Decision | undefined;
  /** Ends the round under way. */
  #failed: (error: unknown) => void = () => {};
  /** Shares of this round that are folded. */
  #share = 0;
  /** A round has begun in this generation. */
  #begun = false;

  readonly #transfers: Transfers;
  readonly #tied: Tied;
  readonly #replicas: Replicas;
  readonly #microbatches: { readonly from: number; readonly to: number };

  /** Throws {@linkcode PlanViolationError} for a plan whose replicas contradict each other. */
  constructor(private readonly parts: RoundParts) {
    this.#between = new Between(parts.slice.self);
    this.#transfers = new Transfers(parts, this.#between, (sending) => this.#sends.push(sending));
    this.#tied = new Tied(parts, (sending) => this.#sends.push(sending));
    this.#replicas = new Replicas(parts, (sending) => {
      // Whoever asked the device hears of a failure when the round waits for its sends.
      sending.catch((error) => this.#failed(error));
      this.#sends.push(sending.catch(() => {}));
    });
    this.#microbatches = ownMicrobatches(parts.slice);
  }

  /** One round, to its end. Throws what went wrong; the generation is then over. */
  async run(message: Round): Promise<void> {
    const { inbox, client, server, slice } = this.parts,
      { round, mode } = message,
      evaluate = mode === "evaluate";
    if (slice.local && !this.#begun) await this.parts.compute.beginLocal();
    this.#begun = true;
    const data = checkedData(this.parts, this.#microbatches, message);
    inbox.enter(round, evaluate);
    client.enter(round, evaluate);
    server.enter(round, evaluate);
    this.#between.clear();
    this.#passes.clear();
    this.#decision = undefined;
    this.#share = 0;
    this.#replicas.enter(round);
    const before = this.#sends;
    this.#sends = [];
    // A pass that fails must be heard of also while the list waits for a frame that will now never come.
    const failure = Promise.withResolvers<never>();
    failure.promise.catch(() => {});
    this.#failed = failure.reject;
    this.#replicas.arrived.catch(failure.reject);
    await Promise.race([this.#list(data, failure.reject), failure.promise]);
    await Promise.all(before);
  }

  /** Resolves when no pass uses the device any more. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#running, this.#replicas.arrived]);
  }

  async #list(data: Data, failed: (error: unknown) => void): Promise<void> {
    const { slice, compute, meter, tell } = this.parts, { round, generation, mode } = data.message;
    for (const operation of slice.operations[mode]) await this.#do(operation, data, failed);
    if (mode === "train") return;
    await this.#quiet();
    await this.#hosted();
    const { losses } = await compute.finish();
    tell({ type: "evaluated", generation, round, losses, report: meter.take(await compute.busy()) });
  }

  /** Every pass of this round so far has ended well. */
  async #quiet(): Promise<void> {
    await Promise.all(this.#passes.values());
  }

  /** Begins a pass as soon as there is room for it, and does not wait for its end. */
  async #begin<T>(
    name: string,
    failed: (error: unknown) => void,
    pass: () => Promise<T>,
  ): Promise<Promise<T>[]> {
    while (this.#running.size >= PASSES) await Promise.race(this.#running);
    const running = pass();
    this.#running.add(running);
    this.#passes.set(name, running);
    running.catch(failed).finally(() => this.#running.delete(running));
    return [running]; // in a list, because a promise of a promise would wait for its end after all
  }

  /** Our hosts know that this share's rows are complete, and our guests have said the same. */
  #hosted(): Promise<void> {
    this.parts.client.end(this.#share);
    return this.parts.meter.waiting(this.parts.server.finished());
  }

  async #do(operation: Operation, data: Data, failed: (error: unknown) => void): Promise<void> {
    switch (operation.do) {
      case "forward":
        return await this.#forward(operation.stage, operation.microbatch, data, failed);
      case "backward":
      case "backward-input":
        return await this.#backward(operation, failed);
      case "backward-weight":
        return await this.#backwardWeight(operation, failed);
      case "fold":
        return await this.#fold();
      case "reduce":
        await this.#quiet();
        return await this.#replicas.reduce();
      case "vote":
        await this.#quiet();
        return await this.#vote(data);
      case "outer":
        if (this.#decision?.outer) await this.#replicas.outer(this.#decision.outer);
        return this.parts.stepped(data.message.round);
      case "spread":
        return await this.#spread(data.message.round);
      case "send":
      case "receive":
        if ("microbatch" in operation) return await this.#transfers.run(operation, data.message);
        await this.#quiet();
        if (operation.what === "tied-gradient") {
          return await this.#tied.gradient(operation, data.message.round, this.#share);
        }
        // An uncommitted step left the weight as it was, and the other end knows that too.
        await this.#replicas.arrived;
        if (this.#decision?.commit || this.#decision?.outer) {
          await this.#tied.weight(operation, data.message.round);
        }
        return;
    }
  }

  async #forward(
    stage: number,
    microbatch: number,
    { message, ids, labels }: Data,
    failed: (error: unknown) => void,
  ): Promise<void> {
    const { embedding, head } = stageOf(this.parts.slice, stage), { sizes: { tokens } } = this.parts;
    const place = microbatch - this.#microbatches.from;
    const ofMicrobatch = (words: Uint32Array<ArrayBuffer>) =>
      words.slice(place * tokens, (place + 1) * tokens);
    const received = embedding ? undefined : this.#between.take("activation", stage, microbatch);
    const [pass] = await this.#begin(
      `forward ${stage} ${microbatch}`,
      failed,
      async () =>
        await this.parts.compute.forward({
          stage,
          microbatch,
          mode: message.mode,
          validLabels: message.validLabels,
          ...(received ? { activation: await received } : { ids: ofMicrobatch(ids!) }),
          ...(head ? { labels: ofMicrobatch(labels!) } : {}),
        }),
    );
    if (!head) this.#between.keep("activation out", stage, microbatch, pass);
  }

  /** A whole backward pass, or its first half. */
  async #backward(
    { do: work, stage, microbatch }: Pass & { do: "backward" | "backward-input" },
    failed: (error: unknown) => void,
  ): Promise<void> {
    const { compute, slice } = this.parts, { embedding, head } = stageOf(slice, stage);
    const received = head ? undefined : this.#between.take("gradient", stage, microbatch);
    await Promise.all([this.#lastBackward, this.#passes.get(`forward ${stage} ${microbatch}`)]);
    const [pass] = await this.#begin(
      `backward ${stage} ${microbatch}`,
      failed,
      async () => {
        const gradient = await received;
        if (work === "backward-input") return await compute.backwardInput(stage, microbatch, gradient);
        this.#leaving(stage, microbatch);
        return await compute.backward(stage, microbatch, gradient);
      },
    );
    this.#lastBackward = pass;
    if (!embedding) this.#between.keep("gradient out", stage, microbatch, pass);
  }

  /** The second half of a backward pass. */
  async #backwardWeight({ stage, microbatch }: Pass, failed: (error: unknown) => void): Promise<void> {
    await this.#lastBackward; // the first half is among those that came before
    const [pass] = await this.#begin(
      `backward-weight ${stage} ${microbatch}`,
      failed,
      async () => {
        this.#leaving(stage, microbatch);
        await this.parts.compute.backwardWeight(stage, microbatch);
      },
    );
    this.#lastBackward = pass;
  }

  /** Gradients of a stage that others own leave as soon as its last pass has left them. */
  #leaving(stage: number, microbatch: number): void {
    if (microbatch === this.#microbatches.to - 1) this.#replicas.leaving(stage);
  }

  /** Ends a share: all own passes over it, and those of our guests. */
  async #fold(): Promise<void> {
    await this.#quiet();
    await this.#hosted();
    await this.parts.compute.fold();
    this.#share++;
    this.parts.server.next();
  }

  async #vote({ message }: Data): Promise<void> {
    const { compute, meter, tell, decision, stepped, slice } = this.parts, { round, generation } = message;
    await this.#replicas.arrived; // also where no pass needed them
    if (this.#share === 0) await this.#hosted();
    const { losses, tensors } = await compute.finish();
    tell({
      type: "vote",
      generation,
      round,
      // A sum that overflowed is as useless as a gradient that is not a number, and says so in the same way.
      tensors: tensors.map(({ name, sum, finite }) =>
        Number.isFinite(sum) ? { name, sum, finite } : { name, sum: 0, finite: false }
      ),
      losses,
      report: meter.take(await compute.busy()),
    });
    const answer = await decision(round);
    await compute.step(answer);
    if (answer.load !== undefined) await compute.balance(answer.load);
    this.#decision = answer;
    // Copies of other replicas' tensors are not yet as the decision wants them.
    if (!slice.operations.train.some(({ do: what }) => what === "spread" || what === "outer")) stepped(round);
  }

  /** The next round begins while weights come back; the step is done when they have. */
  async #spread(round: number): Promise<void> {
    const { stepped } = this.parts;
    // An uncommitted step left the weights as they were, and everyone knows that.
    if (!this.#decision?.commit) return stepped(round);
    await this.#replicas.spread();
    this.#replicas.arrived.then(() => stepped(round), () => {});
  }
}
