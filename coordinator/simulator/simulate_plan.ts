/**
 * A plan on the simulator's clock: every operation of the plan becomes one step, in the same order.
 *
 * @module
 */
import { type Operation, pipelineOf, type Plan, type Stage } from "../../mesh/plan.ts";
import { parseConfig } from "../../model/config.ts";
import type { Cluster } from "../cost/cluster.ts";
import { ClusterError } from "../cost/cluster.ts";
import { owners, words } from "../cost/holdings.ts";
import { Predictor, type StagePass, type StageShape } from "../cost/predict.ts";
import { type Copies, copiesOf } from "../cost/replica_traffic.ts";
import { simulate } from "./simulator.ts";
import type { Job, Piece, Step, Timeline } from "./round.ts";
import { type Codec, type LinkCodecs, linkCodecs } from "../cost/traffic.ts";

/** Options of {@linkcode simulatePlan}. */
export interface SimulatePlanOptions {
  /** Of all links, or those of which each link takes the quickest, where the plan says nothing. Default "f32". */
  readonly codec?: Codec | readonly Codec[];
  readonly trace?: boolean;
}

/** One training round of a plan. Workers are those of the cluster, in its order. */
export function simulatePlan(plan: Plan, cluster: Cluster, options: SimulatePlanOptions = {}): Timeline {
  const config = parseConfig(plan.model), { codec = "f32", trace = false } = options;
  const places = new Map(cluster.workers.map(({ id }, place) => [id, place]));
  const codecs = plan.codecs === undefined ? linkCodecs(cluster, codec) : codecsOf(plan.codecs, cluster);
  const predictor = new Predictor({ config, shape: plan.shape, recompute: plan.recompute, cluster, codecs });
  const placeOf = (id: string) => {
    const place = places.get(id);
    if (place === undefined) {
      throw new ClusterError(`The plan names worker ${id}, which the cluster does not have.`);
    }
    return place;
  };
  // Stages of all pipelines in one row: those of a pipeline begin at its offset.
  const shapes = plan.pipelines.flatMap(({ stages }) => stages.map((stage) => stageShape(stage, placeOf)));
  const offsets = plan.pipelines.map((_, p) =>
    plan.pipelines.slice(0, p).reduce((sum, { stages }) => sum + stages.length, 0)
  );
  const passes = new Map<string, Piece[]>();
  const pieces = ({ work, stage }: { work: StagePass; stage: number }) => {
    const key = `${work} ${stage}`;
    let found = passes.get(key);
    if (found === undefined) passes.set(key, found = predictor.pieces(shapes[stage], work));
    return found;
  };
  const workerOf = shapes.map(({ worker }) => worker);
  const copies = copiesOf(config, plan);
  const lists = cluster.workers.map(({ id }): Step[] => {
    const operations = plan.operations[id]?.train ?? [];
    const offset = operations.length > 0 ? offsets[pipelineOf(plan.pipelines, id)] : 0;
    return operations.flatMap((operation) =>
      operation.do === "reduce" || operation.do === "spread"
        ? replicaSteps(operation.do, id, copies, placeOf)
        : operation.do === "fold" || operation.do === "outer" // of which most rounds have none
        ? []
        : [stepOf(operation, offset, predictor, workerOf, pieces)]
    );
  });
  const owned = new Array<number>(cluster.workers.length).fill(0);
  for (const spec of owners(config, plan)) owned[placeOf(spec.owner)] += words(spec);
  return simulate({
    lists,
    ...wires(cluster),
    step: owned.map((parameters, worker) => predictor.stepSeconds(worker, parameters)),
    trace,
  });
}

/** The codecs that a plan names. */
function codecsOf(named: NonNullable<Plan["codecs"]>, { workers }: Cluster): LinkCodecs {
  const byPair = new Map(
    named.map(({ workers: [a, b], codec }) => [a < b ? `${a} ${b}` : `${b} ${a}`, codec]),
  );
  return (a, b) => {
    const [x, y] = [workers[a].id, workers[b].id];
    return byPair.get(x < y ? `${x} ${y}` : `${y} ${x}`) ?? "f32";
  };
}

/** A cluster's links and changes as the simulator takes them. */
function wires(cluster: Cluster): Pick<Job, "link" | "up" | "down" | "changes"> {
  const places = new Map(cluster.workers.map(({ id }, place) => [id, place]));
  return {
    link: cluster.link,
    up: cluster.workers.map(({ up }) => up),
    down: cluster.workers.map(({ down }) => down),
    changes: cluster.changes.map(({ at, factor, workers }) => ({
      at,
      factor,
      workers: workers.map((id) => places.get(id)!) as [number] | [number, number],
    })),
  };
}

/** What predictions need of a plan's stage. */
function stageShape(stage: Stage, placeOf: (id: string) => number): StageShape {
  const worker = placeOf(stage.worker);
  const remote = stage.experts.map((hosts) => {
    const counts = new Map<number, number>();
    for (const host of hosts) {
      const place = placeOf(host);
      if (place !== worker) counts.set(place, (counts.get(place) ?? 0) + 1);
    }
    return [...counts];
  });
  return { worker, embedding: stage.embedding, head: stage.head, remote };
}

/**
 * The transfers of an operation between pipelines: all that a worker sends, then all that it waits for. Workers begin the next
 * round while weights come back; a simulated round has no next one and ends when they are there.
 */
function replicaSteps(
  kind: "reduce" | "spread",
  self: string,
  copies: readonly Copies[],
  placeOf: (id: string) => number,
): Step[] {
  const ends = copies.map(({ owner, copy, bytes }) =>
    kind === "reduce" ? { from: copy, to: owner, bytes } : { from: owner, to: copy, bytes }
  );
  return [
    ...ends.filter(({ from }) => from === self).map(({ to, bytes }): Step => ({
      do: "send",
      to: placeOf(to),
      key: `${kind} ${self}`,
      bytes,
    })),
    ...ends.filter(({ to }) => to === self).map(({ from }): Step => ({
      do: "receive",
      key: `${kind} ${from}`,
    })),
  ];
}

function stepOf(
  operation: Exclude<Operation, { do: "fold" | "reduce" | "spread" | "outer" }>,
  offset: number,
  predictor: Predictor,
  workerOf: readonly number[],
  pieces: (action: { work: StagePass; stage: number }) => Piece[],
): Step {
  switch (operation.do) {
    case "vote":
      return { do: "vote" };
    case "forward":
    case "backward":
    case "backward-input":
    case "backward-weight": {
      const { do: work, microbatch } = operation, stage = offset + operation.stage;
      return { do: "compute", work, stage, microbatch, pieces: pieces({ work, stage }) };
    }
    case "send":
    case "receive": {
      const { what } = operation, stage = offset + operation.stage, peer = offset + operation.peer;
      const microbatch = "microbatch" in operation ? ` ${operation.microbatch}` : "";
      const bytes = microbatch === ""
        ? predictor.tiedBytes
        : predictor.activationBytes(workerOf[stage], workerOf[peer]);
      return operation.do === "send"
        ? { do: "send", to: workerOf[peer], key: `${what} ${peer}${microbatch}`, bytes }
        : { do: "receive", key: `${what} ${stage}${microbatch}` };
    }
  }
}
