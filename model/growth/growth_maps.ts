/**
 * Which unit of a source axis each unit of a larger axis copies. One cyclic map for each axis, with the residual stream's
 * shared by the whole model; whole heads are units, so that head size and rotary embedding stay as they are.
 *
 * Sources: Chen et al., "bert2BERT" (2022), for copies and their shares; Zhang et al., "AquilaMoE" (2024), for heads inside
 * key/value groups.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";

/** The map of one axis. */
export interface AxisMap {
  /** For each target unit the source unit. */
  readonly unit: Uint32Array;
  /** For each target unit: how many target units copy the same source unit. */
  readonly copies: Float64Array;
  /** 1 where the source unit was copied before, so that this one is new. */
  readonly fresh: Uint8Array;
}

/** The maps of a model. */
export interface GrowthMaps {
  readonly hidden: AxisMap;
  readonly ffn: AxisMap;
  readonly heads: AxisMap;
  readonly kvHeads: AxisMap;
}

/** Unit j copies unit j mod n. */
function cyclicMap(from: number, to: number): AxisMap {
  return axisMap(Uint32Array.from({ length: to }, (_, j) => j % from), (j) => j >= from, from);
}

/** All axes of a growth that `checkGrowth` accepted. */
export function growthMaps(source: ModelConfig, target: ModelConfig): GrowthMaps {
  const grouped = source.kvHeads === target.kvHeads;
  return {
    hidden: cyclicMap(source.hiddenSize, target.hiddenSize),
    ffn: cyclicMap(source.intermediateSize, target.intermediateSize),
    heads: grouped ? groupedHeads(source, target) : cyclicMap(source.heads, target.heads),
    kvHeads: cyclicMap(source.kvHeads, target.kvHeads),
  };
}

/** The same map with each unit a run of `size` elements. */
export function widen(map: AxisMap, size: number): AxisMap {
  const length = map.unit.length * size;
  const unit = new Uint32Array(length), copies = new Float64Array(length), fresh = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    const u = Math.floor(i / size);
    unit[i] = map.unit[u] * size + i % size;
    copies[i] = map.copies[u];
    fresh[i] = map.fresh[u];
  }
  return { unit, copies, fresh };
}

/** Query heads grow inside each key/value group: slot t of group k copies head k r + (t mod r). */
function groupedHeads(source: ModelConfig, target: ModelConfig): AxisMap {
  const r = source.heads / source.kvHeads, r2 = target.heads / target.kvHeads;
  const unit = Uint32Array.from({ length: target.heads }, (_, h) => Math.floor(h / r2) * r + h % r2 % r);
  return axisMap(unit, (h) => h % r2 >= r, source.heads);
}

function axisMap(unit: Uint32Array, isFresh: (j: number) => boolean, from: number): AxisMap {
  const count = new Float64Array(from);
  for (const u of unit) count[u]++;
  return {
    unit,
    copies: Float64Array.from(unit, (u) => count[u]),
    fresh: Uint8Array.from(unit, (_, j) => isFresh(j) ? 1 : 0),
  };
}
