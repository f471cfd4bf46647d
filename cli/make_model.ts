/**
 * Writing a new model's folder: what grow, upcycle, import and export share. Progress, interruption, the card, and what is
 * left where something goes wrong: nothing.
 *
 * @module
 */
import { duration, size, table } from "../coordinator/amounts.ts";
import type { Provenance } from "../model/checkpoint/card.ts";
import type { ChangeSummary, TensorKind } from "../model/growth/change.ts";
import { refuseExisting } from "../model/checkpoint/checkpoint_folders.ts";
import { bytesOf, type DType } from "../model/dtypes.ts";
import { joinPath } from "../model/files.ts";
import { writeModel } from "../model/checkpoint/interchange.ts";
import {
  historyFiles,
  originalCard,
  provenanceFiles,
  readProvenance,
} from "../model/checkpoint/provenance.ts";
import type { TensorSource } from "../model/source.ts";
import { elements, parameterTable } from "../model/tensors.ts";
import { tokenizerFiles } from "../model/text/load_tokenizer.ts";
import { files } from "./model_folder.ts";
import { onInterrupt } from "./interrupt.ts";
import { Screen } from "./screen.ts";
import { CommandError, type Flags, printJson, UsageError } from "./verb.ts";

/** A folder to be written. */
export interface NewModel {
  readonly target: string;
  readonly source: TensorSource;
  readonly dtype: (name: string) => DType;
  /** Folder whose tokenizer and licence come along. */
  readonly companionsFrom: string;
  readonly provenance: Provenance;
  readonly shardBytes: number | undefined;
}

const formats: Readonly<Record<string, DType>> = { f32: "F32", f16: "F16", bf16: "BF16" };

/** The format that --dtype names; undefined for "keep" or nothing. */
export function dtypeOf(flags: Flags): DType | undefined {
  const given = flags.text("dtype");
  if (given === undefined || given === "keep") return undefined;
  const dtype = Object.hasOwn(formats, given) ? formats[given] : undefined;
  if (dtype === undefined) {
    throw new UsageError(`--dtype takes ${Object.keys(formats).join(", ")} or keep, not "${given}".`);
  }
  return dtype;
}

/** Bytes of --shard, which is in MB as other programs count them. */
export function shardOf(flags: Flags): number | undefined {
  const megabytes = flags.number("shard", { min: 1, max: 1e6 });
  return megabytes === undefined ? undefined : megabytes * 1e6;
}

/** @throws {CheckpointError} where something stands under the target's name: told before anything takes time. */
export async function checkTarget(target: string): Promise<void> {
  await refuseExisting(files, target);
}

/** What comes along from a model's folder; its card, unless it is one of ours, as README.source.md. */
async function companions(folder: string): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const found = new Map([...await tokenizerFiles(files, folder), ...await historyFiles(files, folder)]);
  const card = joinPath(folder, "README.md"), size = await files.size(card);
  if (size !== undefined && await readProvenance(files, folder) === undefined) {
    found.set(originalCard, await files.read(card, 0, size));
  }
  return found;
}

/** Writes the folder, whole or not at all. Ctrl-C takes back what was written. */
export async function makeModel(
  model: NewModel,
  screen: Screen,
): Promise<{ bytes: number; seconds: number }> {
  const { target, source, dtype, provenance, shardBytes } = model;
  const extras = new Map([
    ...await companions(model.companionsFrom),
    ...provenanceFiles(source.config, provenance),
  ]);
  const table = parameterTable(source.config);
  const bytes = table.reduce((sum, { name, shape }) => sum + elements(shape) * bytesOf[dtype(name)], 0);
  const began = performance.now(), stop = new AbortController();
  const interrupted = () => {
    screen.replace("stopping ...");
    stop.abort(
      new CommandError(
        `Stopped: ${target} was not written, and what was written of it is removed. The same command starts again.`,
      ),
    );
  };
  const stopListening = onInterrupt(interrupted);
  try {
    await writeModel(files, target, source, {
      dtype,
      extras,
      ...(shardBytes === undefined ? {} : { shardBytes }),
      signal: stop.signal,
      onProgress(written, total) {
        const share = written / total, seconds = (performance.now() - began) / 1000;
        const left = share < 1 ? `, ${duration(seconds / share * (1 - share))} left` : ", syncing";
        screen.replace(
          `${target}: ${(100 * share).toFixed(0)} % of ${size(bytes)}, ` +
            `${size(share * bytes / seconds)}/s${left}`,
        );
      },
    });
  } finally {
    stopListening();
  }
  return { bytes, seconds: (performance.now() - began) / 1000 };
}

/** Shapes and sizes of a change, for people. */
export function changeText({ shapes, parameters, ...bytes }: ChangeSummary): string[] {
  const kind = (of: TensorKind | undefined) =>
    of === undefined ? "-" : `${of.count} x [${of.shape.join(", ")}]`;
  const count = (n: number) => n.toLocaleString("en-US");
  const same = (a: TensorKind | undefined, b: TensorKind | undefined) => kind(a) === kind(b);
  const changed = shapes.filter(({ before, after }) => !same(before, after));
  return [
    ...table(changed.map(({ name, before, after }) => [name, kind(before), "->", kind(after)])),
    ...table([
      [
        "parameters",
        `${count(parameters.before)} -> ${count(parameters.after)}` +
        (parameters.active < parameters.after ? ` (${count(parameters.active)} active for a token)` : "") +
        `, ${(parameters.after / parameters.before).toPrecision(3)} x`,
      ],
      ["disk", size(bytes.diskBytes)],
      [
        "memory",
        `${size(bytes.makingBytes)} to make it; on devices ${size(bytes.runBytes)} to run it, ` +
        `${size(bytes.trainBytes)} to train it (f32 weights, gradients, two moments)`,
      ],
    ]),
  ];
}

/** What was made, for people or as JSON. */
export function reportMade(
  { target, provenance }: NewModel,
  { bytes, seconds }: { bytes: number; seconds: number },
  json: boolean,
  screen: Screen,
): void {
  if (json) printJson({ event: "made", folder: target, bytes, seconds, steps: provenance.steps });
  screen.say(`${target}: ${size(bytes)} in ${seconds.toFixed(1)} s. Its README.md says where it comes from.`);
}
