/**
 * One phase of training over one generation: rounds sent one ahead, votes counted in order, decisions, validations,
 * checkpoints. Knows nothing of files and connections.
 *
 * @module
 */
import type { ModelConfig } from "../../model/config.ts";
import type { Clock } from "../../mesh/runtime.ts";
import type { RoundReport } from "../../mesh/control/messages.ts";
import { addLosses, decide, VoteError } from "./decide.ts";
import { NotFinite, WorkerFailed } from "../errors.ts";
import { finiteOrNull, type Position, type RunEvent, type Validation, type WorkerStep } from "../events.ts";
import type { Batch } from "../batch.ts";
import type { Evaluated, Generation, Vote } from "./generation.ts";
import type { Owned } from "../cost/holdings.ts";
import { learningRate, type TrainPhase } from "../recipe/recipe_phases.ts";
import { Tally, type ValidationData } from "./validation.ts";
import { layerVisits, stepFlops } from "../cost/work.ts";

/** The text of a phase, as rounds. */
export interface PhaseData extends ValidationData {
  /** The batch of a step, from 1: a pure function of the phase's seed and the step. */
  train(step: number): Batch | Promise<Batch>;
}

/** A training phase and the generation that computes it. */
export interface PhaseOptions {
  readonly clock: Clock;
  readonly config: ModelConfig;
  readonly phase: TrainPhase;
  readonly table: readonly Owned[];
  readonly generation: Generation;
  readonly data: PhaseData;
  readonly from: Position;
  /** Hears of a validation before the first step: what a switch made of the model. It may throw to end the phase. */
  readonly before?: (validation: Validation) => void;
  /** Pulls everything from the workers and stores it; weights do not change meanwhile. */
  readonly checkpoint: (position: Position, load?: number[][], replicas?: readonly number[]) => Promise<void>;
  /** What the experts are balanced over at `from`, where that is the whole batch of a step: it is part of a checkpoint. */
  readonly load?: number[][];
  /** Local training: each replica's committed steps since its moments began; also part of a checkpoint. */
  readonly replicas?: readonly number[];
  readonly tell: (event: RunEvent) => void;
  /** Asks for an orderly end after the step under way. */
  readonly signal: AbortSignal;
}

/** Steps in a row whose gradient may be not finite before the run stops. */
export const MOST_SKIPPED = 3;

interface Round {
  readonly round: number;
  readonly mode: "train" | "evaluate";
  /** The step that it is, or after which it validates. */
  readonly step: number;
  readonly labels: number;
  /** The last round of a validation. */
  readonly last: boolean;
}

/** Where a phase ended. */
export interface PhaseResult {
  readonly position: Position;
  readonly finished: boolean;
  /** The validation behind its last step, if there was one. */
  readonly validation?: Validation;
}

/** Layers' loads that are told of a phase: enough for a curve. */
const LOADS = 100;

/** Runs a phase from `from` to its end, or to the step after which it was asked to stop. Answers with where it stands. */
export async function runPhase(options: PhaseOptions): Promise<PhaseResult> {
  const { clock, phase, generation, signal } = options;
  const rounds = upcoming(options);
  const open: Round[] = [];
  const ahead = async () => {
    const next = await rounds.next();
    if (next.done) return;
    const { data, ...round } = next.value;
    generation.open(round.round, round.mode, data);
    open.push(round);
  };
  let position = options.from, skipped = 0, saved = -1;
  let saving: Promise<void> = Promise.resolve();
  const tally = new Tally(), { plan } = generation;
  const flops = stepFlops(options.config, plan.shape, layerVisits(plan));
  const loadsEvery = Math.max(1, Math.floor(phase.steps / LOADS));
  let validation: Validation | undefined;
  let load = options.load;
  let began = clock.now(), pace = 0, timed = 0;
  try {
    await ahead();
    await ahead();
    for (let round = open.shift(); round !== undefined; round = open.shift()) {
      const answers = await generation.collect(round.round);
      if (round.mode === "evaluate") {
        tally.add(count(options, answers, round.labels));
        if (round.last) {
          validation = tally.take(options.data.bytesPerToken);
          options.tell({ event: "evaluation", phase: position.phase, step: round.step, ...validation });
          if (round.step === 0) options.before?.(validation);
        }
      } else {
        const verdict = judge(options, answers as Map<string, Vote>);
        const loss = count(options, answers, round.labels);
        await saving; // a checkpoint holds the weights of one step: the next decision waits for it
        const committed = position.committed + (verdict.commit ? 1 : 0);
        const rate = learningRate(phase, round.step);
        if (phase.balancing === "global") load = loss.counts?.map((counts) => [...counts]);
        generation.send({
          type: "decision",
          generation: generation.plan.generation,
          round: round.round,
          commit: verdict.commit,
          clip: verdict.clip,
          learningRate: rate,
          step: position.moments + (verdict.commit ? 1 : 0),
          beta1: phase.beta1,
          beta2: phase.beta2,
          epsilon: phase.epsilon,
          weightDecay: phase.weight_decay,
          ...(load === undefined ? {} : { load }),
        });
        const moments = position.moments + (verdict.commit ? 1 : 0);
        position = { ...position, step: round.step, committed, moments };
        skipped = verdict.commit ? 0 : skipped + 1;
        const seconds = (clock.now() - began) / 1000;
        // The first step compiles; the mean of the next ten, then the recent ones, tell how long the rest will take.
        pace = timed === 0 ? seconds : pace + (seconds - pace) / Math.min(timed, 10);
        timed++;
        options.tell({
          event: "step",
          phase: position.phase,
          step: round.step,
          steps: phase.steps,
          committed: verdict.commit,
          loss: finiteOrNull(loss.total),
          ce: finiteOrNull(loss.ce),
          balance: finiteOrNull(loss.balance),
          z: finiteOrNull(loss.z),
          norm: finiteOrNull(verdict.norm),
          clip: verdict.clip,
          learningRate: rate,
          tokens: loss.labels,
          flops,
          seconds,
          tokensPerSecond: seconds > 0 ? loss.labels / seconds : 0,
          secondsLeft: pace * (phase.steps - round.step),
          ...(loss.load ? { load: loss.load } : {}),
          workers: [...answers].map(([worker, { report }]) => workerStep(worker, report)),
          ...(verdict.commit ? {} : { broken: verdict.broken.slice(0, 5) }),
        });
        if (loss.loads && (round.step % loadsEvery === 0 || round.step === phase.steps)) {
          options.tell({ event: "experts", phase: position.phase, step: round.step, load: loss.loads });
        }
        if (skipped >= MOST_SKIPPED) throw notFinite(round.step, verdict.broken);
        const due = phase.checkpoint_every > 0 && round.step % phase.checkpoint_every === 0;
        const stop = signal.aborted && round.step < phase.steps;
        if (due || stop) {
          saved = round.step;
          saving = options.checkpoint(position, load);
          saving.catch(() => {}); // awaited before the next decision and at the end
        }
        if (stop) {
          await saving;
          return { position, finished: false };
        }
      }
      began = clock.now();
      await ahead();
    }
    await saving;
    if (saved !== position.step) await options.checkpoint(position, load);
    return { position, finished: true, ...(validation ? { validation } : {}) };
  } finally {
    await saving.catch(() => {}); // nobody writes into the run's folder once this returned
  }
}

/** All rounds from a position to the end of the phase, in order. */
async function* upcoming(options: PhaseOptions): AsyncGenerator<Round & { data: Batch }> {
  const { phase, data, from } = options;
  let round = 0;
  function* validate(step: number): Generator<Round & { data: Batch }> {
    for (const [i, batch] of data.validation.entries()) {
      const last = i === data.validation.length - 1;
      yield { round: round++, mode: "evaluate", step, labels: batch.validLabels, last, data: batch };
    }
  }
  const due = (step: number) =>
    step === phase.steps || (phase.evaluate_every > 0 && step > 0 && step % phase.evaluate_every === 0);
  // A checkpoint may be older than the validation of its step, so a run that goes on there measures once more.
  if (due(from.step) || (options.before !== undefined && from.step === 0)) yield* validate(from.step);
  for (let step = from.step + 1; step <= phase.steps; step++) {
    const batch = await data.train(step);
    yield { round: round++, mode: "train", step, labels: batch.validLabels, last: false, data: batch };
    if (due(step)) yield* validate(step);
  }
}

/** Counts the votes of one step. Throws {@linkcode WorkerFailed} where they do not cover the table. */
export function judge(options: Pick<PhaseOptions, "table" | "phase">, votes: ReadonlyMap<string, Vote>) {
  try {
    const tensors = new Map([...votes].map(([worker, vote]) => [worker, vote.tensors]));
    return decide(options.table, tensors, options.phase.clip);
  } catch (error) {
    if (error instanceof VoteError) {
      throw new WorkerFailed(error.worker, `broke the protocol: it ${error.message}.`);
    }
    throw error;
  }
}

function count(options: PhaseOptions, answers: ReadonlyMap<string, Vote | Evaluated>, labels: number) {
  const { microbatches } = options.generation.plan.shape;
  for (const [worker, { losses }] of answers) {
    const stray = losses.find((part) => part.microbatch >= microbatches);
    if (stray) {
      throw new WorkerFailed(
        worker,
        `broke the protocol: it reports microbatch ${stray.microbatch} of ${microbatches}.`,
      );
    }
  }
  return addLosses(options.config, [...answers.values()].map((a) => a.losses), microbatches, labels);
}

/** A worker's report as shares of its time. */
export function workerStep(worker: string, report: RoundReport): WorkerStep {
  const share = (ms: number) => report.elapsed > 0 ? Math.min(1, Math.max(0, ms / report.elapsed)) : 0;
  return {
    worker,
    busy: share(report.busy),
    waited: share(report.waited),
    sent: report.sent,
    received: report.received,
    ...(report.links === undefined ? {} : { links: report.links }),
  };
}

/** The error after the last of {@linkcode MOST_SKIPPED} steps. */
export function notFinite(step: number, broken: readonly string[]): NotFinite {
  const where = broken.length === 0
    ? "their norm overflows"
    : broken.length === 1
    ? `the gradient of ${broken[0]}`
    : `the gradients of ${broken[0]} and ${broken.length - 1} other tensors`;
  return new NotFinite(
    `The gradient was not finite in ${MOST_SKIPPED} steps in a row, the last at step ${step} (${where}). ` +
      `No weight was changed by them. A lower learning rate, a longer warm-up or a smaller clip usually helps.`,
  );
}
