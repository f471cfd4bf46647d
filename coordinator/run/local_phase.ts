/**
 * A phase of local training (DiLoCo, Douillard et al. 2023): every replica votes and steps for itself over its own share of
 * each step's batch, and every so many steps all take an outer step together, behind which they are alike again. Only then
 * is there something to validate and to save.
 *
 * A replica that is late: once the first one is done with its steps, the others are waited for as long as the recipe's
 * patience says; who is not done then ends with the step that it has under way. What a replica has come since the last outer
 * step counts as much as the tokens that it came it with.
 *
 * @module
 */
import { NO_LABEL } from "../../model/text/data_order.ts";
import { microbatchesOf } from "../../mesh/plan.ts";
import { addLosses, type RoundLoss, type Verdict } from "./decide.ts";
import { finiteOrNull, type Position, type Validation } from "../events.ts";
import type { Batch } from "../batch.ts";
import type { Vote } from "./generation.ts";
import { type Owned, owners } from "../cost/holdings.ts";
import { judge, MOST_SKIPPED, notFinite, type PhaseOptions, type PhaseResult, workerStep } from "./phase.ts";
import { learningRate } from "../recipe/recipe_phases.ts";
import { Tally } from "./validation.ts";
import { stepFlops } from "../cost/work.ts";

/** A step of one replica, counted. */
interface Counted {
  readonly round: number;
  readonly step: number;
  readonly labels: number;
  readonly verdict: Verdict;
  readonly answers: ReadonlyMap<string, Vote>;
}

/** One replica's way through the phase. */
interface Replica {
  readonly place: number;
  readonly table: readonly Owned[];
  /** Next round's number. */
  round: number;
  /** Committed steps since the moments began. */
  moments: number;
  /** Steps in a row that were not finite. */
  skipped: number;
}

/** Runs a phase like `runPhase`, replica by replica. */
export async function runLocalPhase(options: PhaseOptions): Promise<PhaseResult> {
  return await new LocalPhase(options).run();
}

class LocalPhase {
  readonly #options: PhaseOptions;
  readonly #every: number;
  readonly #replicas: Replica[];
  /** Text of steps that some replica has still to see. */
  readonly #batches = new Map<number, Promise<Batch>>();
  #outer = 0;
  #position: Position;
  /** When the step before was told. */
  #told: number;

  constructor(options: PhaseOptions) {
    const { generation: { plan }, config, phase, from, clock, replicas } = options;
    this.#options = options;
    this.#every = phase.local!.every;
    this.#position = from;
    this.#told = clock.now();
    this.#replicas = plan.pipelines.map((pipeline, place) => ({
      place,
      table: owners(config, { pipelines: [pipeline], owners: plan.owners.map(() => 0) }),
      round: 0,
      moments: replicas?.[place] ?? from.moments,
      skipped: 0,
    }));
  }

  async run(): Promise<PhaseResult> {
    const { phase, signal, data } = this.#options;
    let validation: Validation | undefined, saved = -1;
    if (this.#options.before !== undefined && this.#position.step === 0) {
      this.#options.before(await this.#validate());
    }
    while (this.#position.step < phase.steps) {
      await this.#interval();
      const { step } = this.#position, last = step === phase.steps;
      const due = (every: number) => every > 0 && step % every === 0;
      if (data.validation.length > 0 && (last || due(phase.evaluate_every))) {
        validation = await this.#validate();
      }
      const stop = signal.aborted && !last;
      if (last || stop || due(phase.checkpoint_every)) {
        await this.#save();
        saved = step;
      }
      if (stop) return { position: this.#position, finished: false };
    }
    if (saved !== this.#position.step) await this.#save();
    return { position: this.#position, finished: true, ...(validation ? { validation } : {}) };
  }

  async #save(): Promise<void> {
    await this.#options.checkpoint(this.#position, undefined, this.#replicas.map(({ moments }) => moments));
  }

  /** Steps up to the next outer step, and that one. */
  async #interval(): Promise<void> {
    const { clock, phase, generation } = this.#options, first = this.#position.step + 1;
    const last = Math.min(phase.steps, first + this.#every - 1), began = clock.now();
    const late = { now: false };
    let timer: { cancel(): void } | undefined;
    const counted: Counted[][] = this.#replicas.map(() => []);
    const ends = await Promise.all(this.#replicas.map(async (replica) => {
      const end = await this.#own(replica, first, last, late, (one) => {
        counted[replica.place].push(one);
        this.#tell(counted, first, last, false);
      });
      timer ??= clock.timer((clock.now() - began) * phase.local!.patience, () => late.now = true);
      return end;
    }));
    timer?.cancel();
    this.#tell(counted, first, last, true);
    const shares = this.#replicas.map(({ place }) => {
      const { from, to } = microbatchesOf(generation.plan.pipelines, place);
      return (to - from) * counted[place].length;
    });
    const all = shares.reduce((a, b) => a + b, 0), weights = shares.map((share) => share / all);
    const index = this.#outer++;
    this.#replicas.forEach((replica) => this.#decide(replica, ends[replica.place], { index, weights }));
    this.#position = {
      ...this.#position,
      step: last,
      committed: this.#position.committed + counted[0].filter(({ verdict }) => verdict.commit).length,
      moments: this.#replicas[0].moments,
    };
    for (const step of this.#batches.keys()) if (step <= last) this.#batches.delete(step);
  }

  /** One replica's steps `first` to `last`, or to the one under way when it is late. The last is not decided yet. */
  async #own(
    replica: Replica,
    first: number,
    last: number,
    late: { readonly now: boolean },
    counted: (one: Counted) => void,
  ): Promise<Counted> {
    const { generation } = this.#options, open: { step: number; labels: number; round: number }[] = [];
    let next = first;
    const announce = async () => {
      if (next > last || (late.now && next > first)) return;
      const step = next++, batch = await this.#part(replica, step), round = replica.round++;
      generation.open(round, "train", batch, replica.place);
      open.push({ step, labels: batch.validLabels, round });
    };
    await announce();
    await announce();
    while (true) {
      const { step, labels, round } = open.shift()!;
      const answers = await generation.collect(round, replica.place) as Map<string, Vote>;
      const verdict = judge({ ...this.#options, table: replica.table }, answers);
      const one = { round, step, labels, verdict, answers };
      counted(one);
      replica.skipped = verdict.commit ? 0 : replica.skipped + 1;
      if (replica.skipped >= MOST_SKIPPED) throw notFinite(step, verdict.broken);
      if (open.length === 0) await announce();
      if (open.length === 0) return one;
      this.#decide(replica, one);
      await announce();
    }
  }

  #decide(
    replica: Replica,
    { round, step, verdict }: Counted,
    outer?: { readonly index: number; readonly weights: number[] },
  ): void {
    const { generation, phase } = this.#options;
    if (verdict.commit) replica.moments++;
    generation.send({
      type: "decision",
      generation: generation.plan.generation,
      round,
      commit: verdict.commit,
      clip: verdict.clip,
      learningRate: learningRate(phase, step),
      step: verdict.commit ? replica.moments : replica.moments + 1,
      beta1: phase.beta1,
      beta2: phase.beta2,
      epsilon: phase.epsilon,
      weightDecay: phase.weight_decay,
      ...(outer ? { outer } : {}),
    }, replica.place);
  }

  /** The batch of a step with the labels that count in a replica's share of it. */
  async #part({ place }: Replica, step: number): Promise<Batch> {
    let whole = this.#batches.get(step);
    if (whole === undefined) {
      this.#batches.set(step, whole = Promise.resolve(this.#options.data.train(step)));
    }
    const batch = await whole, { plan } = this.#options.generation;
    const { from, to } = microbatchesOf(plan.pipelines, place),
      tokens = plan.shape.batch * plan.shape.sequence;
    const labels = new Uint32Array(batch.labels.slice(4 * from * tokens, 4 * to * tokens).buffer);
    return { ...batch, validLabels: labels.reduce((sum, label) => sum + (label === NO_LABEL ? 0 : 1), 0) };
  }

  #nextTold = 0;

  /** Tells of each step that all replicas have made, and at the end of those that only some have. */
  #tell(counted: readonly (readonly Counted[])[], first: number, last: number, end: boolean): void {
    const { phase, config, generation, clock } = this.#options, { microbatches } = generation.plan.shape;
    this.#nextTold = Math.max(this.#nextTold, first);
    for (; this.#nextTold <= last; this.#nextTold++) {
      const step = this.#nextTold, parts = counted.flatMap((own) => own.filter((one) => one.step === step));
      if (parts.length < (end ? 1 : counted.length)) return;
      const labels = parts.reduce((sum, part) => sum + part.labels, 0);
      const reports = parts.flatMap(({ answers }) => [...answers]);
      const loss: RoundLoss = addLosses(
        config,
        reports.map(([, { losses }]) => losses),
        microbatches,
        labels,
      );
      const seconds = (clock.now() - this.#told) / 1000,
        committed = parts.every(({ verdict }) => verdict.commit);
      this.#told = clock.now();
      this.#options.tell({
        event: "step",
        phase: this.#position.phase,
        step,
        steps: phase.steps,
        committed,
        loss: finiteOrNull(loss.total),
        ce: finiteOrNull(loss.ce),
        balance: finiteOrNull(loss.balance),
        z: finiteOrNull(loss.z),
        norm: finiteOrNull(Math.max(...parts.map(({ verdict }) => verdict.norm))),
        clip: Math.min(...parts.map(({ verdict }) => verdict.clip)),
        learningRate: learningRate(phase, step),
        tokens: labels,
        flops: stepFlops(config, generation.plan.shape),
        seconds,
        tokensPerSecond: seconds > 0 ? labels / seconds : 0,
        secondsLeft: seconds * (phase.steps - step),
        ...(loss.load ? { load: loss.load } : {}),
        workers: reports.map(([worker, { report }]) => workerStep(worker, report)),
        ...(committed ? {} : { broken: parts.flatMap(({ verdict }) => verdict.broken).slice(0, 5) }),
      });
    }
  }

  /** Validates with all replicas, each over its share of every batch. */
  async #validate(): Promise<Validation> {
    const { generation, data, config, tell } = this.#options, tally = new Tally();
    const { microbatches } = generation.plan.shape;
    for (const batch of data.validation) {
      const round = Math.max(...this.#replicas.map((replica) => replica.round));
      for (const replica of this.#replicas) replica.round = round + 1;
      generation.open(round, "evaluate", batch);
      const answers = await generation.collect(round);
      const reports = [...answers.values()].map(({ losses }) => losses);
      tally.add(addLosses(config, reports, microbatches, batch.validLabels));
    }
    const validation = tally.take(data.bytesPerToken), { phase, step } = this.#position;
    tell({ event: "evaluation", phase, step, ...validation });
    this.#told = this.#options.clock.now();
    return validation;
  }
}
