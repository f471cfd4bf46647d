/**
 * The planner for a cluster whose links are known: finds the division with the shortest predicted step, exactly where the
 * cluster is small and by local search where it is large, and says what is short where none fits.
 *
 * @module
 */
import type { Pipeline, Plan, Shape, Stage } from "../../mesh/plan.ts";
import { configToJson, type ModelConfig } from "../../model/config.ts";
import { checkPrecision, type Precision } from "../../model/precision.ts";
import type { Cluster } from "../cost/cluster.ts";
import { Judge } from "./judge.ts";
import type { Division } from "./division.ts";
import { PlanInfeasible } from "../errors.ts";
import { countDivisions, searchAll } from "./exact_search.ts";
import { shareOwnership } from "../cost/holdings.ts";
import { type Effort, type Found, searchLocally } from "./local_search.ts";
import { withCodecs } from "../cost/plan_codecs.ts";
import type { Setting } from "../cost/predict.ts";
import { schedulePlan } from "../schedule/schedule.ts";
import { type Codec, linkCodecs } from "../cost/traffic.ts";

/** Divisions up to which all are tried: a second or two of comparing bounds. */
const EXACT = 200_000;

/** What to plan. */
export interface FindRequest {
  readonly run: string;
  readonly generation: number;
  readonly config: ModelConfig;
  readonly cluster: Cluster;
  readonly shape: Shape;
  readonly recompute: boolean;
  /** What factors of matrix products are rounded to. Default "f32". */
  readonly precision?: Precision;
  /** Of all links; of several each link takes the quickest. Default "f32". */
  readonly codec?: Codec | readonly Codec[];
  /** Exactly so many stages. */
  readonly stages?: number;
  /** Whether experts may lie on workers without a stage; default true. */
  readonly hosts?: boolean;
  /** The order of passes where each worker has one stage; see schedule_choice.ts for all orders. Default "1f1b". */
  readonly schedule?: Setting["schedule"];
  /** How long local search looks; the default suits up to a thousand workers in some seconds. */
  readonly effort?: Effort;
}

/** A plan and what is predicted for it. */
export interface FoundPlan {
  readonly plan: Plan;
  readonly division: Division;
  /** Predicted seconds of a training round. */
  readonly seconds: number;
  /** Every division was considered. */
  readonly exact: boolean;
  /** Predicted bytes of device memory by worker of the cluster. */
  readonly memory: ReadonlyMap<number, number>;
  readonly judge: Judge;
}

/** The default effort: less for each change where a change costs more to judge, little where all are tried anyway. */
function effortFor(config: ModelConfig, workers: number, exact = false): Effort {
  if (exact) return { changes: 500, starts: 3, polish: 20 };
  const large = Math.min(workers, config.layers) > 24;
  return large ? { changes: 12_000, starts: 3, polish: 200 } : { changes: 5_000, starts: 6, polish: 400 };
}

/** Throws {@linkcode PlanInfeasible}. The same request always gives the same plan. */
export function findPlan(request: FindRequest): FoundPlan {
  const { config, cluster, shape, recompute, precision, codec = "f32", stages, schedule } = request;
  if (stages !== undefined && (stages > config.layers || stages > cluster.workers.length)) {
    throw new PlanInfeasible(
      `${stages} stages are more than the ${config.layers} layers or the ${cluster.workers.length} workers there are; ` +
        `each stage needs one of both: ask for at most ${Math.min(config.layers, cluster.workers.length)}.`,
    );
  }
  checkPrecision(config, precision ?? "f32");
  const codecs = linkCodecs(cluster, codec);
  const judge = new Judge({ config, cluster, shape, recompute, precision, codecs, schedule });
  const { best, closest } = searchLocally(
    judge,
    request.effort ?? effortFor(config, cluster.workers.length),
    {
      stages,
      hosts: request.hosts,
    },
  );
  const free = stages === undefined && request.hosts !== false;
  const exact = free && countDivisions(cluster.workers.length, config.layers, config.experts) <= EXACT;
  const found = exact ? searchAll(judge, best) : best;
  if (found === undefined) throw infeasible(request, judge, closest);
  return {
    plan: planOf(request, found.division),
    division: found.division,
    seconds: found.seconds,
    exact,
    memory: judge.memory(found.division),
    judge,
  };
}

/** A division as the message that workers run, with the request's order of passes. */
export function planOf(request: FindRequest, division: Division): Plan {
  const pipelines = [{ shares: [request.shape.microbatches], stages: stagesOf(request, division) }];
  return planOfPipelines(request, pipelines, request.schedule);
}

/** The same of pipelines side by side, each worker's passes in the order of 1F1B unless `schedule` names another. */
export function planOfPipelines(
  { run, generation, config, cluster, shape, recompute, precision, codec }: FindRequest,
  pipelines: readonly Pipeline[],
  schedule?: FindRequest["schedule"],
): Plan {
  const plan = {
    run,
    generation,
    model: configToJson(config),
    shape,
    pipelines: [...pipelines],
    owners: shareOwnership(config, pipelines.length),
    recompute,
    ...(precision === undefined ? {} : { precision }),
    operations: schedulePlan(pipelines, config.tiedEmbeddings, schedule),
  };
  return withCodecs(plan, cluster, codec);
}

/** A division as the plan's stages; here a worker may have several. */
export function stagesOf(
  { config, cluster }: Pick<FindRequest, "config" | "cluster">,
  division: Division,
): Stage[] {
  const id = (worker: number) => cluster.workers[worker].id;
  let from = 0;
  return division.map(({ worker, layers, remote }, s): Stage => {
    const hosts = remote.flatMap(([host, n]) => new Array<string>(n).fill(id(host)));
    const own = new Array<string>(config.experts - hosts.length).fill(id(worker));
    const stage = {
      worker: id(worker),
      from,
      to: from + layers,
      embedding: s === 0,
      head: s === division.length - 1,
      experts: Array.from({ length: layers }, () => config.experts > 0 ? [...own, ...hosts] : []),
    };
    from += layers;
    return stage;
  });
}

/** What is short where in the division that lacks least, and the smallest change after which one fits. */
function infeasible(request: FindRequest, judge: Judge, closest: Division): PlanInfeasible {
  if (judge.bound(closest) === Infinity) {
    return new PlanInfeasible(
      "No chain of direct links joins enough workers: neighbouring stages need a link between them, and so do the first " +
        "and the last. Add [[link]]s.",
    );
  }
  const lines = shortages(judge, closest).map(({ worker, bytes, lends }) => {
    const part = closest.find((p) => p.worker === worker);
    const holds = part ? `${part.layers} ${part.layers === 1 ? "layer" : "layers"}` : "experts";
    return `worker ${judge.setting.cluster.workers[worker].id} (${holds}) needs ${mebibytes(bytes)} MiB ` +
      `and lends ${mebibytes(lends)} MiB, ${mebibytes(bytes - lends)} MiB short`;
  });
  return new PlanInfeasible(
    `The model does not fit. In the division that lacks least ${some(lines)}. ${remedy(request)}`,
  );
}

/** Workers that would need more than they lend, worst first. */
function shortages(judge: Judge, division: Division) {
  const { workers } = judge.setting.cluster;
  return [...judge.memory(division)]
    .map(([worker, bytes]) => ({ worker, bytes, lends: workers[worker].profile.memory }))
    .filter(({ bytes, lends }) => bytes > lends)
    .sort((a, b) => (b.bytes - b.lends) - (a.bytes - a.lends));
}

function remedy(request: FindRequest): string {
  const { shape, recompute, precision, config, cluster, schedule } = request;
  const { changes, starts } = request.effort ?? effortFor(config, cluster.workers.length);
  const look = (change: Partial<Setting>) => {
    const judge = new Judge({
      config,
      cluster,
      shape,
      recompute,
      precision,
      codecs: linkCodecs(cluster, request.codec ?? "f32"),
      schedule,
      ...change,
    });
    return { judge, ...searchLocally(judge, { changes: changes / 2, starts, polish: 0 }, request) };
  };
  if (schedule === "gpipe" && look({ schedule: "1f1b" }).best) {
    return 'It fits with schedule = "1f1b" in [mesh], which keeps fewer microbatches at once.';
  }
  let last = recompute ? undefined : look({ recompute: true });
  if (last?.best) return "It fits with recompute = true in the phase.";
  for (let parts = 2; parts <= shape.batch; parts *= 2) {
    if (shape.batch % parts !== 0) continue;
    const smaller = { ...shape, batch: shape.batch / parts, microbatches: shape.microbatches * parts };
    const said = `microbatches = ${smaller.microbatches}`;
    if (look({ shape: smaller }).best) return `It fits with ${said} in the phase.`;
    last = look({ shape: smaller, recompute: true });
    if (last.best) return `It fits with ${said} and recompute = true in the phase.`;
  }
  const { judge, closest } = last ?? look({});
  const short = shortages(judge, closest);
  const who = short.map(({ worker, bytes, lends }) =>
    `${mebibytes(bytes - lends)} MiB more on ${cluster.workers[worker].id}`
  );
  const gap = short.reduce((sum, { bytes, lends }) => sum + bytes - lends, 0);
  return `Recomputing and the smallest microbatches are not enough: with both, lend ${some(who)}, or ` +
    `add workers that lend ${mebibytes(gap)} MiB and what a stage of their own needs.`;
}

/** The first few of a list. */
function some(parts: readonly string[]): string {
  return parts.slice(0, 4).join("; ") + (parts.length > 4 ? `; and ${parts.length - 4} more` : "");
}

function mebibytes(bytes: number): string {
  return Math.ceil(bytes / 2 ** 20).toLocaleString("en");
}

export type { Found };
