/**
 * A division as the simulator runs it.
 *
 * @module
 */
import type { Division } from "./division.ts";
import { pipelineSteps } from "../simulator/pipeline_steps.ts";
import type { Predictor, StagePass, StageShape } from "../cost/predict.ts";
import { type Action, actions } from "../schedule/schedules.ts";
import type { Job, Piece } from "../simulator/round.ts";

/**
 * The simulator's job of a training round: passes in the given orders of work, one for each worker with stages, or in those of
 * the setting's schedule. `parameters`: what each worker with a part owns.
 */
export function jobOf(
  predictor: Predictor,
  parameters: ReadonlyMap<number, number>,
  division: Division,
  given?: readonly (readonly Action[])[],
): Job {
  const { shape, cluster, config, schedule = "1f1b" } = predictor.setting, stages = division.length;
  const shapes = division.map((part, s): StageShape => ({
    worker: part.worker,
    embedding: s === 0,
    head: s === stages - 1,
    remote: new Array(part.layers).fill(part.remote),
  }));
  const passes = new Map<string, Piece[]>();
  const orders = given ??
    actions(schedule, { workers: stages, microbatches: shape.microbatches, chunks: 1 });
  const workerOf = division.map(({ worker }) => worker), holders = [...new Set(workerOf)];
  // Only who has a part: the clock need not know the others.
  const members = [...parameters.keys()].sort((a, b) => a - b);
  const seat = new Map(members.map((worker, i) => [worker, i]));
  const lists = pipelineSteps({
    orders,
    workerOf: workerOf.map((worker) => seat.get(worker)!),
    pieces: ({ work, stage }) => {
      const key = `${work} ${stage}`;
      let found = passes.get(key);
      if (found === undefined) {
        found = predictor.pieces(shapes[stage], work as StagePass).map(({ seconds, exchange }) => ({
          seconds,
          ...(exchange
            ? {
              exchange: {
                ...exchange,
                parts: exchange.parts.map((part) => ({ ...part, host: seat.get(part.host)! })),
              },
            }
            : {}),
        }));
        passes.set(key, found);
      }
      return found;
    },
    bytes: (from, to) => predictor.activationBytes(members[from], members[to]),
  });
  const seated = members.map((_, i) => {
    const place = holders.indexOf(members[i]);
    return place < 0 ? [{ do: "vote" } as const] : lists[place];
  });
  if (config.tiedEmbeddings && workerOf[0] !== workerOf[stages - 1]) {
    const first = seat.get(workerOf[0])!, last = seat.get(workerOf[stages - 1])!;
    const bytes = predictor.tiedBytes;
    const between = (
      list: typeof seated[number],
      before: typeof list[number],
      after: typeof list[number],
    ) => [
      ...list.slice(0, -1),
      before,
      { do: "vote" } as const,
      after,
    ];
    seated[first] = between(
      seated[first],
      { do: "receive", key: "tied-gradient 0" },
      { do: "send", to: last, key: `tied-weight ${stages - 1}`, bytes },
    );
    seated[last] = between(
      seated[last],
      { do: "send", to: first, key: "tied-gradient 0", bytes },
      { do: "receive", key: `tied-weight ${stages - 1}` },
    );
  }
  return {
    lists: seated,
    link: (a, b) => cluster.link(members[a], members[b]),
    up: members.map((worker) => cluster.workers[worker].up),
    down: members.map((worker) => cluster.workers[worker].down),
    step: members.map((worker) => predictor.stepSeconds(worker, parameters.get(worker)!)),
  };
}
