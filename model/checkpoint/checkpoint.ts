/**
 * Checkpoints that are Hugging Face folders: config.json, model.safetensors or shards with an index, and the
 * tokenizer's files. They are read range by range; whatever does not fit config.json exactly is refused by name.
 *
 * @module
 */
import { type ModelConfig, parseConfig } from "../config.ts";
import type { DType } from "../dtypes.ts";
import { CheckpointError } from "../errors.ts";
import { type FileReader, joinPath, readText, withoutSlash } from "../files.ts";
import { openSafetensors, readStored, type SafetensorsFile, type StoredTensor } from "./safetensors.ts";
import type { TensorSource } from "../source.ts";
import { parameterTable, type TensorSpec } from "../tensors.ts";

/** A model's folder whose files were checked against its configuration. */
export interface Checkpoint extends TensorSource {
  readonly folder: string;
  /** The tensors, in the order of the parameter table. */
  readonly table: readonly TensorSpec[];
  /** Text pairs from the first weight file. */
  readonly metadata: Readonly<Record<string, string>>;
  /** How a tensor is stored. */
  dtype(name: string): DType;
}

/** A stored tensor and its file. */
interface Place {
  readonly file: SafetensorsFile;
  readonly tensor: StoredTensor;
}

/** Names of buffers that old converters stored and that follow from the configuration. */
const derived = /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/;

/**
 * Opens a folder.
 *
 * @throws {ConfigError | SafetensorsError | CheckpointError} with the file, tensor or key that is wrong.
 */
export async function openCheckpoint(files: FileReader, path: string): Promise<Checkpoint> {
  const folder = withoutSlash(path);
  const config = parseConfig(await readJson(files, joinPath(folder, "config.json")));
  return await openWeights(files, folder, config, await weightFiles(files, folder));
}

/**
 * Opens weight files of any name under a configuration that is already known.
 *
 * @param shards paths of safetensors files and, where an index says so, the tensors that each must hold.
 */
async function openWeights(
  files: FileReader,
  folder: string,
  config: ModelConfig,
  shards: readonly { path: string; names?: ReadonlySet<string> }[],
): Promise<Checkpoint> {
  const places = new Map<string, Place>();
  let metadata: Readonly<Record<string, string>> | undefined;
  for (const { path, names } of shards) {
    const file = await openSafetensors(files, path);
    metadata ??= file.metadata;
    for (const name of names ?? []) {
      if (!file.tensors.has(name)) {
        throw new CheckpointError(
          `The index of ${folder} looks for tensor ${name} in ${path}, which does not hold it.`,
        );
      }
    }
    for (const [name, tensor] of file.tensors) {
      const other = places.get(name);
      if (other !== undefined) {
        throw new CheckpointError(`Tensor ${name} is in both ${other.file.path} and ${path}: one must go.`);
      }
      if (!derived.test(name)) places.set(name, { file, tensor });
    }
  }
  const table = parameterTable(config);
  await acceptTiedCopy(files, config, places);
  compareWithTable(folder, config, table, places);
  const place = (name: string) => {
    const found = places.get(name);
    if (found === undefined) throw new Error(`A model of this configuration has no tensor ${name}`);
    return found;
  };
  return {
    folder,
    config,
    table,
    metadata: metadata ?? {},
    dtype: (name) => place(name).tensor.dtype,
    read(name, start, length) {
      const { file, tensor } = place(name);
      return readStored(files, file, tensor, start, length);
    },
  };
}

/** Parsed JSON of a file that must be there. @throws {CheckpointError} */
export async function readJson(files: FileReader, path: string): Promise<unknown> {
  let text: string | undefined;
  try {
    text = await readText(files, path);
    if (text !== undefined) return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError) {
      throw new CheckpointError(`${path} is not readable JSON: ${error.message}.`);
    }
    throw error;
  }
  throw new CheckpointError(
    `There is no ${path}. A model is a folder with config.json and model.safetensors.`,
  );
}

/** The weight files of a folder: one, or the shards of an index. */
async function weightFiles(files: FileReader, folder: string) {
  const single = joinPath(folder, "model.safetensors");
  if (await files.size(single) !== undefined) return [{ path: single }];
  const indexPath = joinPath(folder, "model.safetensors.index.json");
  if (await files.size(indexPath) === undefined) {
    for (const other of ["pytorch_model.bin", "pytorch_model.bin.index.json"]) {
      if (await files.size(joinPath(folder, other)) !== undefined) {
        throw new CheckpointError(
          `${folder} holds ${other}, a pickle that could run any code and is not read. Convert it to safetensors first.`,
        );
      }
    }
    throw new CheckpointError(`${folder} has neither model.safetensors nor model.safetensors.index.json.`);
  }
  const index = await readJson(files, indexPath) as { weight_map?: unknown } | null;
  const map = index?.weight_map;
  if (typeof map !== "object" || map === null || Array.isArray(map) || Object.keys(map).length === 0) {
    throw new CheckpointError(`${indexPath} has no weight_map from tensor names to files.`);
  }
  const shards = new Map<string, Set<string>>();
  for (const [name, file] of Object.entries(map)) {
    // A plain name: an index must not lead out of its folder.
    if (typeof file !== "string" || !/^[\w.-]+\.safetensors$/.test(file) || file.startsWith(".")) {
      throw new CheckpointError(
        `${indexPath} names ${JSON.stringify(file)} for ${name}; only files beside it are read.`,
      );
    }
    const names = shards.get(file) ?? new Set();
    shards.set(file, names.add(name));
  }
  const sorted = [...shards].sort(([a], [b]) => a < b ? -1 : 1);
  for (const [file] of sorted) {
    if (await files.size(joinPath(folder, file)) === undefined) {
      throw new CheckpointError(
        `${indexPath} names ${file}, but ${folder} has no such file. Fetch the missing shard (${sorted.length} in all).`,
      );
    }
  }
  return sorted.map(([file, names]) => ({ path: joinPath(folder, file), names }));
}

/** Some converters store a tied head beside its embedding: accepted where it is the same, bit for bit. */
async function acceptTiedCopy(
  files: FileReader,
  config: ModelConfig,
  places: Map<string, Place>,
): Promise<void> {
  const head = places.get("lm_head.weight"), embedding = places.get("model.embed_tokens.weight");
  if (!config.tiedEmbeddings || head === undefined || embedding === undefined) return;
  const bytes = head.tensor.end - head.tensor.start;
  let same = head.tensor.dtype === embedding.tensor.dtype &&
    embedding.tensor.end - embedding.tensor.start === bytes;
  for (let at = 0; same && at < bytes; at += 1 << 22) {
    const to = Math.min(bytes, at + (1 << 22));
    const [a, b] = await Promise.all(
      [head, embedding].map(({ file, tensor }) =>
        files.read(file.path, tensor.start + at, tensor.start + to)
      ),
    );
    same = a.every((byte, i) => byte === b[i]);
  }
  if (!same) {
    throw new CheckpointError(
      "tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens.weight: one of them would be " +
        "ignored. Set tie_word_embeddings to false, or remove lm_head.weight.",
    );
  }
  places.delete("lm_head.weight");
}

function compareWithTable(
  folder: string,
  config: ModelConfig,
  table: readonly TensorSpec[],
  places: ReadonlyMap<string, Place>,
): void {
  const wanted = new Map(table.map((spec) => [spec.name, spec]));
  const missing = table.filter((spec) => !places.has(spec.name));
  const extra = [...places.values()].filter(({ tensor }) => !wanted.has(tensor.name)).map(({ tensor }) =>
    tensor
  );
  const text = (shape: readonly number[]) => `[${shape.join(", ")}]`;
  for (const { name, shape } of table) {
    const got = places.get(name)?.tensor.shape;
    if (got !== undefined && text(got) !== text(shape)) {
      throw new CheckpointError(
        `Tensor ${name} of ${folder} has the shape ${text(got)}, but config.json asks for ` +
          `${text(shape)}. One of the two belongs to another model.`,
      );
    }
  }
  if (missing.length === 0 && extra.length === 0) return;
  const list = (tensors: readonly { name: string; shape: readonly number[] }[]) =>
    tensors.slice(0, 3).map(({ name, shape }) => `${name} ${text(shape)}`).join(", ") +
    (tensors.length > 3 ? ` and ${tensors.length - 3} more` : "");
  const parts = [
    ...(missing.length > 0 ? [`lacks ${list(missing)}`] : []),
    ...(extra.length > 0 ? [`has ${list(extra)} that a model of this configuration does not have`] : []),
  ];
  throw new CheckpointError(`${folder} ${parts.join(" and ")}.${hint(config, missing, extra)}`);
}

/** The likely reason, where names betray it. */
function hint(config: ModelConfig, missing: readonly TensorSpec[], extra: readonly StoredTensor[]): string {
  if (extra.some(({ name }) => /\.o_proj\.bias$/.test(name))) return " A bias on o is not computed here.";
  if (extra.some(({ name }) => /[qk]_norm/.test(name))) {
    return " Norms of queries and keys are not computed here.";
  }
  if (extra.some(({ name }) => /[qkv]_proj\.bias$/.test(name))) {
    return " Set attention_bias to true if they are meant (types volary, qwen2 and aquilamoe).";
  }
  if (missing.some(({ role }) => role === "head") && !config.tiedEmbeddings) {
    return " Set tie_word_embeddings to true if the embedding serves as head.";
  }
  const size = (shape: readonly number[]) => shape.join(",");
  const twin = missing.length > 0 && extra.find(({ shape }) => size(shape) === size(missing[0].shape));
  return twin ? ` Perhaps ${twin.name} should be called ${missing[0].name}.` : "";
}
