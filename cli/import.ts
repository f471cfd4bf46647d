/**
 * `volary import`: a Hugging Face folder, checked and copied.
 *
 * @module
 */
import { openCheckpoint } from "../model/checkpoint/checkpoint.ts";
import { storedFormat } from "../model/checkpoint/interchange.ts";
import { transfer, transferFlags } from "./transfer.ts";
import { readFlags, type Verb } from "./verb.ts";
import { files } from "./model_folder.ts";

export const verb: Verb = {
  name: "import",
  summary: "check a Hugging Face model and copy it, without losing a bit",
  help: `volary import FOLDER TARGET [--dtype keep] [--shard MB] [--json]

Reads a Hugging Face folder (Llama, Qwen2, Mixtral, AquilaDense, AquilaMoE: config.json, safetensors
with or without an index, tokenizer.json), checks every key of its configuration and every tensor's
name, shape and values, and writes TARGET. A model that would be computed wrongly here (sliding
windows, rope scaling, a softmax before the top-k ...) is refused with the reason. Every verb also
takes such a folder as it is; importing checks it once, and begins the model's history.

  --dtype NAME   keep (default, lossless), f32 (lossless too), bf16 or f16
  --shard MB     begin a new weight file beyond this size (default: 5000)
  --json         one JSON object on stdout`,
  examples: ["import ../some-llama models/small"],

  async run(args) {
    const flags = readFlags(args, { ...transferFlags, positional: ["FOLDER", "TARGET"] });
    const [folder, target] = flags.positional;
    const checkpoint = await openCheckpoint(files, folder);
    const formats = [...new Set(checkpoint.table.map(({ name }) => checkpoint.dtype(name)))].join(", ");
    return await transfer(flags, {
      checkpoint,
      source: checkpoint,
      target,
      kept: storedFormat(checkpoint),
      step: `imported (${checkpoint.config.modelType}, ${formats})`,
    });
  },
};
