/**
 * A slice of a plan on a device: memory for what it holds, and the objects that compute with it.
 *
 * @module
 */
import type { Device } from "../kernels/mod.ts";
import { hostedExperts, type Slice, type Stage as PlannedStage } from "../mesh/plan.ts";
import { parseConfig } from "../model/config.ts";
import { ExpertBank } from "../model/layers/expert_bank.ts";
import type { RowExchanger } from "../model/layers/expert_exchange.ts";
import type { Holding } from "../model/layout.ts";
import { Lease } from "../model/lease.ts";
import type { Notes } from "../model/layers/notes.ts";
import { Optimizer } from "../model/layers/optimizer.ts";
import { Parameters } from "../model/parameters.ts";
import { PassTables } from "../model/layers/pass.ts";
import { ShareSums } from "../model/layers/share_sums.ts";
import { Stage } from "../model/layers/stage.ts";
import { OuterOptimizer } from "./outer_optimizer.ts";
import { ReplicaTensors } from "./replica_tensors.ts";

/** What one slice of a plan has on the device. */
export interface Loaded {
  readonly slice: Slice;
  readonly device: Lease;
  readonly parameters: Parameters;
  readonly bank: ExpertBank;
  readonly optimizer: Optimizer;
  readonly shares: ShareSums;
  readonly replicas: ReplicaTensors;
  readonly outer: OuterOptimizer;
  /** This worker's stages by their place in the plan. */
  readonly stages: ReadonlyMap<number, Stage>;
  /** What the round's forward passes left for the end of the round. */
  readonly notes: { readonly stage: number; readonly notes: Notes }[];
}

/** What a worker holds under a slice. */
function holdingOf(slice: Slice): Holding {
  const own = slice.stages.filter((stage) => stage.worker === slice.self);
  return {
    layers: own.flatMap((stage) => Array.from({ length: stage.to - stage.from }, (_, i) => stage.from + i)),
    embedding: own.some((stage) => stage.embedding),
    head: own.some((stage) => stage.head),
    experts: hostedExperts(slice.stages, slice.self),
    copies: new Set(
      // Replicas that train locally step everything themselves.
      slice.local
        ? []
        : slice.replication?.owners.flatMap((owner, place) =>
          owner === slice.replication!.own ? [] : [place - 1]
        ),
    ),
  };
}

/** Allocates what `slice` holds, on a loan from `whole`. Throws `OutOfMemoryError`; nothing is kept then. */
export function loadSlice(whole: Device, slice: Slice, exchange: RowExchanger): Loaded {
  const config = parseConfig(slice.model), device = new Lease(whole);
  try {
    const parameters = new Parameters(device, config, holdingOf(slice), {
      training: true,
      precision: slice.precision,
    });
    const bank = new ExpertBank(device, parameters, { recompute: slice.recompute });
    const tables = new PassTables(device, config, slice.precision);
    const stage = ({ from, to, embedding, head, experts }: PlannedStage) =>
      new Stage(device, parameters, bank, tables, {
        from,
        to,
        embedding,
        head,
        recompute: slice.recompute,
        self: slice.self,
        hosts: experts,
        exchange,
      });
    const stages = new Map<number, Stage>();
    slice.stages.forEach((planned, index) => {
      if (planned.worker === slice.self) stages.set(index, stage(planned));
    });
    const { replication } = slice;
    return {
      slice,
      device,
      parameters,
      bank,
      optimizer: new Optimizer(device, parameters),
      shares: new ShareSums(device, parameters, replication?.pipelines[replication.own].shares.length ?? 1),
      replicas: new ReplicaTensors(device, parameters),
      outer: new OuterOptimizer(parameters),
      stages,
      notes: [],
    };
  } catch (error) {
    device.close();
    throw error;
  }
}
