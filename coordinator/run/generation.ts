/**
 * One generation of a plan: hands everyone their part, serves their weights, relays their signals, waits until all are
 * linked, and then collects what they answer to each round. Ends at the first worker that leaves or breaks the protocol.
 *
 * @module
 */
import { links, microbatchesOf, pipelineOf, type Plan, sliceFor } from "../../mesh/plan.ts";
import type { PullRequest } from "../../mesh/control/control.ts";
import type { FromCoordinator, FromWorker, Part } from "../../mesh/control/messages.ts";
import { limits } from "../../mesh/limits.ts";
import type { Clock, Timer } from "../../mesh/runtime.ts";
import type { Batch } from "../batch.ts";
import { WorkerFailed } from "../errors.ts";
import type { Member, MemberMessage } from "../member.ts";
import { pause } from "../pause.ts";
import type { ParameterSource } from "./parameter_source.ts";

/** A worker's answer to a round of training: losses, and the sums of squares of the gradients that it owns. */
export type Vote = Extract<FromWorker, { type: "vote" }>;
/** Its answer to a round of evaluation. */
export type Evaluated = Extract<FromWorker, { type: "evaluated" }>;
type Answer = Vote | Evaluated;
type Round = Extract<FromCoordinator, { type: "round" }>;

/** Bytes queued to one worker above which the next piece of a tensor waits. */
const queuedBytes = 8 << 20;

/** A round that was sent: what answers it needs and has. */
interface Open {
  readonly mode: "train" | "evaluate";
  /** Whose answers it needs. */
  readonly members: ReadonlySet<string>;
  readonly answers: Map<string, Answer>;
  readonly all: PromiseWithResolvers<void>;
}

/** See the module's description. */
export class Generation {
  readonly plan: Plan;
  /** Rejects once with what ended the generation before its time; never resolves. */
  readonly failure: Promise<never>;
  /** Messages that were dropped because they belong to another generation. */
  dropped = 0;
  readonly #members: ReadonlyMap<string, Member>;
  readonly #source: ParameterSource;
  readonly #clock: Clock;
  /** The piece being read, if any: pieces are read one after the other. */
  #reading: Promise<unknown> = Promise.resolve();
  /** Resolves when a worker says that it will leave; it stays for a few seconds, so that what it holds can be saved. */
  readonly leaving: Promise<WorkerFailed>;
  readonly #leave: (error: WorkerFailed) => void;
  readonly #fail: (error: WorkerFailed) => void;
  readonly #pairs: ReadonlySet<string>;
  readonly #barrier = new Map<
    "loaded" | "linked",
    { waiting: Set<string>; all: PromiseWithResolvers<void> }
  >();
  /** By number, and by pipeline where each has rounds of its own. */
  readonly #rounds = new Map<string, Open>();
  #renewal: Timer | undefined;
  #over = false;

  constructor(plan: Plan, members: readonly Member[], source: ParameterSource, clock: Clock) {
    this.plan = plan;
    this.#clock = clock;
    this.#source = source;
    const part = Object.keys(plan.operations);
    this.#members = new Map(
      members.filter((member) => part.includes(member.id)).map((member) => [member.id, member]),
    );
    this.#pairs = new Set(links(plan).map((pair) => pair.join("\n")));
    const { promise, reject } = Promise.withResolvers<never>();
    this.failure = promise;
    this.failure.catch(() => {}); // also where nobody waits at the moment
    this.#fail = (error) => {
      if (!this.#over) reject(error);
    };
    const leaving = Promise.withResolvers<WorkerFailed>();
    this.leaving = leaving.promise;
    this.#leave = leaving.resolve;
    for (const name of ["loaded", "linked"] as const) {
      this.#barrier.set(name, { waiting: new Set(part), all: Promise.withResolvers() });
    }
    for (const member of this.#members.values()) {
      member.onmessage = (message) => this.#receive(member, message);
      member.onpull = (request) => this.#serve(member, request);
      member.closed.then((reason) => this.#fail(new WorkerFailed(member.id, `left: ${sentence(reason)}`)));
    }
  }

  /**
   * Hands out the plan and waits until every worker has its tensors and its links; calls `at` at each stage. `load` is what
   * experts are balanced over at first, where that is more than a microbatch.
   */
  async begin(
    moments: boolean,
    at: (stage: "loading" | "linking" | "ready") => void,
    load?: number[][],
  ): Promise<void> {
    at("loading");
    const { run } = this.plan, members = [...this.#members.values()];
    // All words first: who has its part may signal at once to who has not.
    const words = await Promise.all(members.map((member) => member.delegate(run)));
    if (!this.#over) {
      const outer = this.#source.outer ?? false;
      members.forEach((member, i) => {
        const slice = sliceFor(this.plan, member.id);
        member.send({ type: "assign", slice, moments, outer, delegation: words[i] });
      });
    }
    this.#renew();
    await this.#or(this.#barrier.get("loaded")!.all.promise);
    at("linking");
    await this.#or(this.#barrier.get("linked")!.all.promise);
    this.send({ type: "start", generation: this.plan.generation, ...(load ? { load } : {}) });
    at("ready");
  }

  /** Sends one message to everyone of the plan, or of one of its pipelines. */
  send(message: FromCoordinator, pipeline?: number): void {
    for (const member of this.#of(pipeline)) member.send(message);
  }

  #of(pipeline: number | undefined): Member[] {
    const all = [...this.#members.values()];
    return pipeline === undefined
      ? all
      : all.filter(({ id }) => pipelineOf(this.plan.pipelines, id) === pipeline);
  }

  /**
   * Announces a round; of each pipeline's microbatches ids go to the stage that embeds, labels to the one with the head.
   * With `pipeline` it is a round of that one alone.
   */
  open(round: number, mode: "train" | "evaluate", data: Batch, pipeline?: number): void {
    const takePart = this.#of(pipeline);
    this.#rounds.set(roundKey(round, pipeline), {
      mode,
      members: new Set(takePart.map(({ id }) => id)),
      answers: new Map<string, Answer>(),
      all: Promise.withResolvers<void>(),
    });
    const { pipelines, shape } = this.plan, bytes = 4 * shape.batch * shape.sequence;
    for (const member of takePart) {
      const place = pipelineOf(pipelines, member.id), { from, to } = microbatchesOf(pipelines, place);
      const stages = pipelines[place].stages.filter((stage) => stage.worker === member.id);
      const part = (words: Uint8Array<ArrayBuffer>) => words.subarray(from * bytes, to * bytes);
      const message: Round = {
        type: "round",
        generation: this.plan.generation,
        round,
        mode,
        validLabels: data.validLabels,
        ...(stages.some((stage) => stage.embedding) ? { ids: part(data.ids) } : {}),
        ...(stages.some((stage) => stage.head) ? { labels: part(data.labels) } : {}),
      };
      member.send(message);
    }
  }

  /** Everyone's answer to a round, by worker in the plan's order. */
  async collect(round: number, pipeline?: number): Promise<Map<string, Answer>> {
    const key = roundKey(round, pipeline), open = this.#rounds.get(key);
    if (open === undefined) throw new Error(`Round ${round} was never opened`);
    await this.#or(open.all.promise);
    this.#rounds.delete(key);
    return new Map([...open.members].map((id) => [id, open.answers.get(id)!]));
  }

  /** Words of a tensor from the worker that owns it. */
  async pull(owner: string, tensor: string, part: Part, start: number, length: number) {
    const bytes = await this.#or(this.#members.get(owner)!.pull({ tensor, part, start, length }));
    if (bytes.length !== 4 * length) {
      const error = new WorkerFailed(
        owner,
        `sent ${bytes.length} bytes of ${tensor} where ${4 * length} were asked for.`,
      );
      this.#fail(error);
      throw error;
    }
    return bytes;
  }

  /** Ends the generation: workers drop what they do and stay for the next. */
  end(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#renewal?.cancel();
    this.send({ type: "stop", generation: this.plan.generation, reason: reason.slice(0, 2000) });
    for (const member of this.#members.values()) member.onmessage = member.onpull = undefined;
  }

  /** Workers that connect again in the middle of a generation need a word that still holds. */
  #renew(): void {
    if (this.#over) return;
    this.#renewal = this.#clock.timer(limits.delegationMs / 2, async () => {
      const { run, generation } = this.plan;
      for (const member of this.#members.values()) {
        const delegation = await member.delegate(run);
        if (!this.#over) member.send({ type: "delegation", generation, delegation });
      }
      this.#renew();
    });
  }

  /** Waits for `promise` unless the generation fails first. */
  #or<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.failure]);
  }

  #receive(member: Member, message: MemberMessage): void {
    if ("generation" in message && message.generation !== this.plan.generation) {
      this.dropped++;
      return;
    }
    switch (message.type) {
      case "signal":
        return this.#relay(member, message);
      case "loaded":
      case "linked": {
        const barrier = this.#barrier.get(message.type)!;
        if (!barrier.waiting.delete(member.id)) return this.#violation(member, `said ${message.type} twice`);
        if (barrier.waiting.size === 0) barrier.all.resolve();
        return;
      }
      case "vote":
      case "evaluated":
        return this.#answer(member, message);
      case "failed":
        return this.#fail(new WorkerFailed(member.id, `cannot go on: ${message.reason}`));
      case "leaving":
        return this.#leave(new WorkerFailed(member.id, `left: ${sentence(message.reason)}`));
      case "hello":
        return this.#violation(member, `sent "${message.type}" out of turn`);
    }
  }

  #violation(member: Member, what: string): void {
    this.#fail(new WorkerFailed(member.id, `broke the protocol: it ${what}.`));
    member.close(`protocol violation: ${what}`);
  }

  #relay(member: Member, message: Extract<FromWorker, { type: "signal" }>): void {
    const pair = [member.id, message.peer].sort((a, b) => a < b ? -1 : 1).join("\n");
    const peer = this.#members.get(message.peer);
    if (peer === undefined || !this.#pairs.has(pair)) {
      return this.#violation(member, `signalled to ${message.peer}, to which the plan has no link`);
    }
    peer.send({ ...message, peer: member.id });
  }

  /** One piece of a tensor, once what was sent before has mostly left: a slow worker waits for itself. */
  async #serve(
    member: Member,
    { tensor, part, start, length }: PullRequest,
  ): Promise<Uint8Array<ArrayBuffer>> {
    await member.drained(queuedBytes);
    // Drawing fresh weights keeps this thread busy: between two pieces signs of life are answered.
    const read = this.#reading.then(async () => {
      await pause(this.#clock);
      const replica = pipelineOf(this.plan.pipelines, member.id);
      return await this.#source.read(tensor, part, start, length, replica);
    });
    this.#reading = read.catch(() => {});
    try {
      return await read;
    } catch (error) {
      // The member's connection closes with this; what is wrong may be ours, such as a damaged checkpoint.
      const what = `words ${start}..${start + length} of ${tensor} (${part})`;
      this.#fail(new WorkerFailed(member.id, `could not be given ${what}: ${(error as Error).message}`));
      throw error;
    }
  }

  #answer(member: Member, message: Answer): void {
    const open = this.#rounds.get(roundKey(message.round, pipelineOf(this.plan.pipelines, member.id))) ??
      this.#rounds.get(roundKey(message.round));
    const wanted = open?.mode === "train" ? "vote" : "evaluated";
    if (open === undefined || message.type !== wanted || open.answers.has(member.id)) {
      return this.#violation(
        member,
        `sent "${message.type}" for round ${message.round}, which does not wait for it`,
      );
    }
    open.answers.set(member.id, message);
    if (open.answers.size === open.members.size) open.all.resolve();
  }
}

function roundKey(round: number, pipeline?: number): string {
  return pipeline === undefined ? String(round) : `${round} of ${pipeline}`;
}

/** What somebody said, with one full stop. */
function sentence(said: string): string {
  return said.replace(/\.?$/, ".");
}
