/**
 * `volary generate`: continues a text.
 *
 * @module
 */
import { generate } from "../model/text/generate.ts";
import { LoadedModel } from "../model/layers/local_model.ts";
import { chosenDevice, openModelFolder, write } from "./model_folder.ts";
import { CommandError, printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "generate",
  summary: "continue a text with a trained model",
  help:
    `volary generate MODEL [--prompt TEXT] [--tokens 200] [--temperature 0.8] [--top-p 0.95] [--seed 1] [--greedy]

Continues the prompt and writes the text to stdout. MODEL is a Hugging Face folder, or a run's
folder (its newest checkpoint).

  --prompt TEXT       what to continue (default: the beginning of a text)
  --tokens N          at most so many tokens
  --temperature X     0 always takes the likeliest token; higher is more varied
  --top-p X           choose among the likeliest tokens that together have this probability
  --greedy            the same as --temperature 0
  --seed N            the same seed gives the same text on the same device
  --device NAME       auto, webgpu or reference
  --json              one JSON object on stdout instead of the text`,
  examples: [
    'generate runs/tiny --prompt "The coordinator "',
    'generate models/moe --prompt "water: " --tokens 50 --greedy',
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json", "greedy"],
      string: ["prompt", "tokens", "temperature", "top-p", "seed", "device"],
      positional: ["MODEL"],
    });
    const maxTokens = flags.number("tokens", { min: 1, max: 1_000_000, integer: true }) ?? 200;
    const temperature = flags.has("greedy") ? 0 : flags.number("temperature", { min: 0, max: 100 }) ?? 0.8;
    const topP = flags.number("top-p", { min: 0.000001, max: 1 }) ?? 0.95;
    const seed = flags.number("seed", { min: 0, max: 0xffff_ffff, integer: true }) ?? 1;
    const json = flags.has("json"), prompt = flags.text("prompt") ?? "";
    const { checkpoint, tokenizer } = await openModelFolder(flags.positional[0]);
    const device = await chosenDevice(flags.text("device"));
    try {
      if (!json) say(`${checkpoint.folder} on ${device.info.name} (${device.info.kind})`);
      const model = await LoadedModel.load(device, checkpoint);
      const ids = [...tokenizer.prefix, ...tokenizer.encode(prompt)];
      if (ids.length === 0) ids.push(tokenizer.bos ?? tokenizer.eos ?? 0);
      const stream = tokenizer.stream();
      const made: number[] = [];
      let text = "";
      const show = (piece: string) => {
        text += piece;
        if (!json) write(piece);
      };
      // A text that would outgrow the model ends where its positions end.
      const { maxPositions } = checkpoint.config, room = maxPositions - ids.length + 1;
      if (room < 1) {
        throw new CommandError(
          `The prompt has ${ids.length} tokens, and the model was made for ${maxPositions}: shorten it.`,
        );
      }
      if (!json) write(prompt);
      const options = { maxTokens: Math.min(maxTokens, room), temperature, topP, seed, stop: tokenizer.eos };
      for await (const id of generate(model, Uint32Array.from(ids), options)) {
        made.push(id);
        show(stream.push(id));
      }
      show(stream.end());
      if (json) printJson({ event: "generated", prompt, text, tokens: made.length });
      else write("\n");
      model.release();
      return 0;
    } finally {
      device.close();
    }
  },
};
