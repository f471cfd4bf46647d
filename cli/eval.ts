/**
 * `volary eval`: measures a model on texts.
 *
 * @module
 */
import { lossJson, lossText, measure, measureFlags, measureOf, spreadOfLoad } from "./measure.ts";
import { chosenDevice, openModelFolder } from "./model_folder.ts";
import { Screen } from "./screen.ts";
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
  --json           one JSON object on stdout, with nll and bits_per_byte`,

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: measureFlags, positional: ["MODEL"] });
    if (flags.text("text") === undefined) throw new UsageError("--text FILE is missing.");
    const { checkpoint, tokenizer } = await openModelFolder(flags.positional[0]);
    const on = (await measureOf(flags))!;
    const device = await chosenDevice(flags.text("device"));
    const screen = new Screen();
    try {
      screen.say(`${checkpoint.folder} on ${device.info.name} (${device.info.kind})`);
      const loss = await measure(device, checkpoint, tokenizer, on, screen);
      if (flags.has("json")) {
        printJson({ event: "evaluation", model: checkpoint.folder, text: on.path, ...lossJson(loss) });
      }
      screen.say(`${on.path}: ${lossText(loss)} (${loss.tokens} tokens, ${loss.bytes} bytes)`);
      if (loss.load.length > 0) {
        const spreads = loss.load.map(spreadOfLoad);
        const most = Math.max(...spreads.map((s) => s.most)),
          least = Math.min(...spreads.map((s) => s.least));
        screen.say(
          `experts: the busiest has ${most.toFixed(2)} x an even share, the idlest ${least.toFixed(2)} x ` +
            "(volary inspect --text shows each layer)",
        );
      }
      return 0;
    } finally {
      screen.end();
      device.close();
    }
  },
};
