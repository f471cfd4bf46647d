/**
 * What making a larger model out of a smaller one will mean, as numbers for people to read before it runs.
 *
 * @module
 */
import type { ModelConfig } from "../config.ts";
import { bytesOf, type DType } from "../dtypes.ts";
import { piecesAtOnce } from "../checkpoint/interchange.ts";
import { pieceLength } from "../source.ts";
import { countParameters, elements, parameterTable } from "../tensors.ts";

/** Tensors of one kind, before and after: how many, and of which shape. */
export interface ShapeChange {
  /** Hugging Face name with `*` for layers and experts. */
  readonly name: string;
  readonly before: TensorKind | undefined;
  readonly after: TensorKind | undefined;
}

/** So many tensors of one shape. */
export interface TensorKind {
  readonly count: number;
  readonly shape: readonly number[];
}

/** Sizes before and after. */
export interface ChangeSummary {
  readonly shapes: readonly ShapeChange[];
  readonly parameters: { readonly before: number; readonly after: number; readonly active: number };
  /** Bytes of the new weight files. */
  readonly diskBytes: number;
  /** Bytes of tensors that are held while it is made, beside the program itself. */
  readonly makingBytes: number;
  /** Bytes of f32 weights on the devices, and with gradients and two moments. */
  readonly runBytes: number;
  readonly trainBytes: number;
}

/** Pieces that are held: of each under way its source and what is made of it, and a few that are not collected yet. */
const piecesHeld = 3 * piecesAtOnce;

/**
 * @param wholeTensors how many whole tensors (of the largest size among those of experts) are held, for changes that
 * cannot be made piece by piece
 */
export function summarizeChange(
  source: ModelConfig,
  target: ModelConfig,
  dtype: (name: string) => DType,
  wholeTensors = 0,
): ChangeSummary {
  const before = kinds(source), after = kinds(target), table = parameterTable(target);
  const names = [...new Set([...after.keys(), ...before.keys()])];
  const { total, active } = countParameters(target);
  const largest = (all: typeof table) => Math.max(0, ...all.map(({ shape }) => elements(shape)));
  const held = largest(table.filter(({ expert }) => expert !== undefined));
  return {
    shapes: names.map((name) => ({ name, before: before.get(name), after: after.get(name) })),
    parameters: { before: countParameters(source).total, after: total, active },
    diskBytes: table.reduce((sum, { name, shape }) => sum + elements(shape) * bytesOf[dtype(name)], 0),
    makingBytes: 4 * (piecesHeld * Math.min(pieceLength, largest(table)) + wholeTensors * held),
    runBytes: 4 * total,
    trainBytes: 16 * total,
  };
}

function kinds(config: ModelConfig): Map<string, TensorKind> {
  const found = new Map<string, TensorKind>();
  for (const { name, shape } of parameterTable(config)) {
    const kind = name.replace(/\.(layers|experts)\.\d+\./g, ".$1.*.");
    found.set(kind, { count: (found.get(kind)?.count ?? 0) + 1, shape });
  }
  return found;
}

/** Loss that a change which keeps the function may gain or lose by rounding, relative to the loss or to 1 nat, if that is more. */
const roundingOfLoss = 1e-4;

/** Whether a loss behind a change is the one before it but for rounding; both in nats. A loss that is no number is not. */
export function sameLoss(before: number, after: number): boolean {
  return Math.abs(after - before) <= roundingOfLoss * Math.max(1, before);
}
