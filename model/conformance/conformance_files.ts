/**
 * Cases with known answers as folders of files.
 *
 * @module
 */
import { parseConfig } from "../config.ts";
import type { GrownCase } from "./conformance_growth.ts";
import { arraySource, type CaseBatch, type Tensors, type TrainingCase } from "./conformance.ts";
import { ModelError } from "../errors.ts";
import { type FileReader, joinPath, readText } from "../files.ts";
import { openSafetensors, readStored } from "../checkpoint/safetensors.ts";
import { elements } from "../tensors.ts";
import { growModel, parseGrowthOptions } from "../growth/growth.ts";
import { upcycleModel } from "../growth/upcycle.ts";

/** A folder that is no proper case. */
export class CaseError extends ModelError {
  override readonly name = "CaseError";
}

/** What a folder's files make it. */
export type CaseKind = "training" | "growth" | "upcycle";

/** Which kind of case a folder holds, by the file that only that kind has; undefined where none. */
export async function caseKind(files: FileReader, folder: string): Promise<CaseKind | undefined> {
  const markers = [["training", "train.json"], ["growth", "growth.json"], [
    "upcycle",
    "upcycle.json",
  ]] as const;
  for (const [kind, marker] of markers) {
    if (await files.size(joinPath(folder, marker)) !== undefined) return kind;
  }
  return undefined;
}

/** All tensors of a file as f32. */
async function readTensors(files: FileReader, path: string): Promise<Tensors> {
  const file = await openSafetensors(files, path);
  const tensors = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [name, stored] of file.tensors) {
    tensors.set(name, await readStored(files, file, stored, 0, elements(stored.shape)));
  }
  return tensors;
}

/** A JSON file of a case. @throws {CaseError} where it is missing or not JSON. */
async function readJson(files: FileReader, folder: string, name: string): Promise<unknown> {
  const path = joinPath(folder, name);
  const text = await readText(files, path);
  if (text === undefined) throw new CaseError(`The case ${folder} cannot be checked: it has no ${name}.`);
  try {
    return JSON.parse(text);
  } catch {
    throw new CaseError(`The case ${folder} cannot be checked: ${name} is not JSON.`);
  }
}

/** Reads a training case. */
export async function readTrainingCase(files: FileReader, folder: string): Promise<TrainingCase> {
  return {
    config: parseConfig(await readJson(files, folder, "config.json")),
    weights: await readTensors(files, joinPath(folder, "weights.safetensors")),
    batch: await readJson(files, folder, "batch.json") as CaseBatch,
    train: await readJson(files, folder, "train.json") as TrainingCase["train"],
    answers: await readTensors(files, joinPath(folder, "expected.safetensors")),
    expected: await readJson(files, folder, "expected.json") as TrainingCase["expected"],
  };
}

/** Reads a growth or upcycling case: a source model, what to do with it, and the model that must come out. */
export async function readGrownCase(
  files: FileReader,
  folder: string,
  kind: Exclude<CaseKind, "training">,
): Promise<GrownCase> {
  const model = async (part: string) => ({
    config: parseConfig(await readJson(files, joinPath(folder, part), "config.json")),
    tensors: await readTensors(files, joinPath(joinPath(folder, part), "weights.safetensors")),
  });
  const source = await model("source"), expected = await model("expected");
  const from = arraySource(source.config, source.tensors);
  const grown = kind === "growth"
    ? growModel(
      from,
      expected.config,
      parseGrowthOptions(await readJson(files, folder, "growth.json") as Readonly<Record<string, unknown>>),
    )
    : upcycleModel(from, expected.config, {
      seed: 0,
      router: await readTensors(files, joinPath(folder, "router.safetensors")),
    });
  return {
    source: from,
    grown,
    tensors: expected.tensors,
    batch: await readJson(files, folder, "batch.json") as CaseBatch,
    losses: await readJson(files, folder, "expected.json") as GrownCase["losses"],
  };
}
