/**
 * `volary eval`: measures a model on texts.
 *
 * @module
 */
import { evaluateTasks, readTaskFiles, tasksJson, tasksText } from "./eval_tasks.ts";
import {
  lossJson,
  lossText,
  type Measure,
  measure,
  measureFlags,
  measureOf,
  spreadOfLoad,
} from "./measure.ts";
import { onlyLayers } from "../model/fewer_layers.ts";
import { keptOf } from "./layer_flags.ts";
import { chosenDevice, openModelFolder } from "./model_folder.ts";
import { Screen } from "./screen.ts";
import { printJson, readFlags, UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "eval",
  summary: "measure a model on a text: loss and bits per byte",
  help:
    `volary eval MODEL [--text FILE] [--tasks FILE...] [--layers SHARE | --skip-layers LIST] [--sequence N]
            [--device auto] [--json]

Prints the mean negative log-likelihood of a token (nats) and bits per byte of a text, and how many
tasks are done right. MODEL is a Hugging Face folder, or a run's folder (its newest checkpoint).

  --text FILE      a UTF-8 text
  --tasks FILE...  tasks, one JSON object a line:
                     {"kind": "choose", "prompt": "water: ", "candidates": ["a clear liquid", "to run"], "answer": 0}
                   the candidate with the lowest loss behind the prompt is chosen; answer counts
                   from 0. Four scores: by the loss of the whole candidate, divided by its tokens,
                   divided by its characters, and less what it costs behind "premise" (default:
                   nothing), which keeps of the prompt what all tasks share. A fifth line goes by
                   the latter alone: far from chance, the tasks give their answers away.
                     {"kind": "generate", "prompt": "2 + 2 = ", "answers": ["4"]}
                   the model writes on, its likeliest token each time, at most max_tokens (64), up
                   to one of until (["\\n"]); extract takes all (default), line, word, number,
                   last-number or {"pattern": "..."} of it; compare says how: equal (default), loose
                   (case, marks and spaces aside), contains, number; chance is what guessing gives
                   (0). volary data tasks makes some.
  --layers SHARE   measure the model with layers missing: 75% or 6 of them stay, the first always,
                   the others spread evenly
  --skip-layers L  the same with a list of layers to leave out, from 0: 3,5 or 4-5. Models that were
                   trained with [mesh] visits (SkipPipe) lose less by it
  --sequence N     tokens that the model sees at once (default: 512, or what the model was made for)
  --device NAME    auto, webgpu or reference
  --json           JSON objects on stdout: "evaluation" with nll and bits_per_byte (layers: which
                   stayed, where some were left out); "tasks" for each file and kind, with counts,
                   accuracy, standard_error, chance and above_chance (in standard errors)`,
  examples: [
    "eval runs/tiny --text README.md",
    "eval models/moe --tasks tasks.jsonl --json",
    "eval models/moe --text valid.txt --layers 75%",
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json"],
      string: [...measureFlags, "layers", "skip-layers"],
      lists: ["tasks"],
      positional: ["MODEL"],
    });
    const taskFiles = flags.list("tasks");
    if (flags.text("text") === undefined && taskFiles === undefined) {
      throw new UsageError("--text FILE or --tasks FILE... is missing.");
    }
    const tasks = await readTaskFiles(taskFiles ?? []);
    const { checkpoint, tokenizer } = await openModelFolder(flags.positional[0]);
    const kept = keptOf(flags, checkpoint.config.layers);
    const model = kept === undefined ? checkpoint : onlyLayers(checkpoint, kept);
    const missing = kept && { layers: kept };
    const on = await measureOf(flags, taskFiles !== undefined);
    const device = await chosenDevice(flags.text("device")), json = flags.has("json");
    const screen = new Screen();
    const text = async (on: Measure) => {
      const loss = await measure(device, model, tokenizer, on, screen);
      if (json) {
        printJson({
          event: "evaluation",
          model: checkpoint.folder,
          text: on.path,
          ...lossJson(loss),
          ...missing,
        });
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
    };
    try {
      screen.say(`${checkpoint.folder} on ${device.info.name} (${device.info.kind})`);
      if (kept) {
        screen.say(`with ${kept.length} of ${checkpoint.config.layers} layers: ${kept.join(", ")}`);
      }
      if (on !== undefined) await text(on);
      if (tasks.length > 0) {
        const all = await evaluateTasks(device, model, tokenizer, tasks, screen);
        if (json) {
          for (const scores of all.flatMap(tasksJson)) {
            printJson({ event: "tasks", model: checkpoint.folder, ...scores, ...missing });
          }
        }
        screen.say(tasksText(all));
      }
      return 0;
    } finally {
      screen.end();
      device.close();
    }
  },
};
