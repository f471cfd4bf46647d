/**
 * Which layers of a model a verb computes: --layers and --skip-layers.
 *
 * @module
 */
import { keptLayers } from "../model/fewer_layers.ts";
import { type Flags, UsageError } from "./verb.ts";

/**
 * The layers that stay, from 0; undefined where neither flag is given and all do.
 *
 * @throws {UsageError} For both flags, for what cannot be read, and for layers that a model of `layers` does not have.
 */
export function keptOf(flags: Flags, layers: number): number[] | undefined {
  const count = flags.text("layers"), skipped = flags.text("skip-layers");
  if (count !== undefined && skipped !== undefined) {
    throw new UsageError(
      "--layers says how many layers stay, --skip-layers which do not: give one of the two.",
    );
  }
  if (count !== undefined) return keptLayers(layers, countOf(count, layers));
  if (skipped === undefined) return undefined;
  const out = new Set(skipped.split(",").flatMap((part) => rangeOf(part.trim(), layers)));
  const kept = Array.from({ length: layers }, (_, layer) => layer).filter((layer) => !out.has(layer));
  if (kept.length === 0) {
    throw new UsageError(
      `--skip-layers ${skipped} leaves none of the model's ${layers} layers: keep at least one.`,
    );
  }
  return kept;
}

/** "75%" or "6". */
function countOf(given: string, layers: number): number {
  const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(given.trim()), value = Number(match?.[1]);
  const share = match?.[2] === "%", count = share ? Math.round(layers * value / 100) : value;
  if (Number.isInteger(count) && count >= 1 && count <= layers && !(share && value > 100)) return count;
  throw new UsageError(
    `--layers takes how many of the model's ${layers} layers stay, as 1 to ${layers} or as a share of them such as 75% ` +
      `(at least one layer, at most 100%), not "${given}".`,
  );
}

/** "3" or "4-5". */
function rangeOf(given: string, layers: number): number[] {
  const match = /^(\d+)(?:-(\d+))?$/.exec(given),
    first = Number(match?.[1]),
    last = Number(match?.[2] ?? first);
  if (match === null || last < first || last >= layers) {
    throw new UsageError(
      `--skip-layers takes layers from 0 to ${layers - 1}, such as 3,5 or 4-5; "${given}" is none of ` +
        `the model's ${layers}.`,
    );
  }
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
