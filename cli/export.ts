/**
 * `volary export`: a model as a folder that other programs read.
 *
 * @module
 */
import { openCheckpoint } from "../model/checkpoint/checkpoint.ts";
import { plainestType } from "../model/config.ts";
import { type ModelType, modelTypes } from "../model/families.ts";
import { forExport, storedFormat } from "../model/checkpoint/interchange.ts";
import { files, modelFolder } from "./model_folder.ts";
import { transfer, transferFlags } from "./transfer.ts";
import { readFlags, UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "export",
  summary: "write a model as a Hugging Face folder with a model card",
  help:
    `volary export MODEL TARGET [--as TYPE] [--dtype keep] [--shard MB] [--name TEXT] [--license ID] [--json]

Writes a model (a folder, or a run's newest checkpoint) as a Hugging Face folder: config.json of a
family that others have code for, safetensors, the tokenizer's files and a model card that tells
source, growth steps, data and losses.

  --as TYPE       ${modelTypes.join(", ")}
                  (default: llama or qwen2 for dense models, mixtral for experts without biases,
                  aquilamoe with them, volary with a shared expert or a ladder residual, which
                  published code of other types would pass over; a type that would lose something
                  is refused)
  --dtype NAME    keep (default, lossless), f32, bf16 or f16
  --shard MB      begin a new weight file beyond this size (default: 5000)
  --name TEXT     the model's name on its card (default: the target's)
  --license ID    its licence, as SPDX writes it
  --json          one JSON object on stdout`,
  examples: ["export models/moe out --dtype bf16", "export runs/tiny out --as volary --license MIT"],

  async run(args) {
    const flags = readFlags(args, {
      ...transferFlags,
      string: [...transferFlags.string, "as", "name", "license"],
      positional: ["MODEL", "TARGET"],
    });
    const [from, target] = flags.positional, as = flags.text("as");
    if (as !== undefined && !modelTypes.some((type) => type === as)) {
      throw new UsageError(`--as takes ${modelTypes.join(", ")}, not "${as}".`);
    }
    const checkpoint = await openCheckpoint(files, await modelFolder(from));
    const type = as as ModelType | undefined ?? plainestType(checkpoint.config);
    const name = flags.text("name"), license = flags.text("license");
    return await transfer(flags, {
      checkpoint,
      source: forExport(checkpoint, type),
      target,
      kept: storedFormat(checkpoint),
      step: undefined,
      ...(name === undefined ? {} : { name }),
      ...(license === undefined ? {} : { license }),
    });
  },
};
