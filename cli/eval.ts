/**
 * `volary eval`: measures a model on texts.
 *
 * @module
 */
import { LoadedModel } from "../model/local_model.ts";
import { readDocumentFile } from "../model/text.ts";
import { chosenDevice, files, openModelFolder } from "./model_folder.ts";
import { Screen } from "./screen.ts";
import { textLoss } from "./text_loss.ts";
import { printJson, readFlags, UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "eval",
  summary: "measure a model on a text: loss and bits per byte",
  help: `volary eval MODEL --text FILE [--sequence N] [--device auto] [--json]

Prints the mean negative log-likelihood of a token (nats) and bits per byte of a text. MODEL is a Hugging Face folder, or a
run's folder (its newest checkpoint).

  --text FILE      a UTF-8 text
  --sequence N     tokens that the model sees at once (default: 512, or what the model was made for)
  --device NAME    auto, webgpu or reference
  --json           one JSON object on stdout`,

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json"],
      string: ["text", "sequence", "device"],
      positional: ["MODEL"],
    });
    const path = flags.text("text");
    if (path === undefined) throw new UsageError("--text FILE is missing.");
    const asked = flags.number("sequence", { min: 1, max: 1_000_000, integer: true });
    const { checkpoint, tokenizer } = await openModelFolder(flags.positional[0]);
    const text = await readDocumentFile(files, path);
    const sequence = Math.min(asked ?? 512, checkpoint.config.maxPositions);
    const device = await chosenDevice(flags.text("device"));
    const screen = new Screen();
    try {
      screen.say(`${checkpoint.folder} on ${device.info.name} (${device.info.kind})`);
      const model = await LoadedModel.load(device, checkpoint);
      const loss = await textLoss(model, tokenizer, text, sequence, (done, all) => {
        screen.replace(`${done} of ${all} tokens`);
      });
      const { nll, bitsPerByte, tokens, bytes } = loss;
      if (flags.has("json")) {
        printJson({ event: "evaluation", model: checkpoint.folder, text: path, ...loss });
      }
      screen.say(
        `${path}: nll ${nll.toFixed(4)} per token, ${
          bitsPerByte.toFixed(4)
        } bits per byte (${tokens} tokens, ${bytes} bytes)`,
      );
      model.release();
      return 0;
    } finally {
      screen.end();
      device.close();
    }
  },
};
