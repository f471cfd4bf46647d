/**
 * From one model to a larger one: what `volary grow` and `volary upcycle` share. Says what will be, measures before and
 * after where a text is given, writes the folder.
 *
 * @module
 */
import type { Provenance } from "../model/checkpoint/card.ts";
import { sameLoss, summarizeChange } from "../model/growth/change.ts";
import { type Checkpoint, openCheckpoint } from "../model/checkpoint/checkpoint.ts";
import type { DType } from "../model/dtypes.ts";
import { asStored } from "../model/checkpoint/interchange.ts";
import type { TensorSource } from "../model/source.ts";
import { countParameters } from "../model/tensors.ts";
import { loadTokenizer } from "../model/text/load_tokenizer.ts";
import { historyOf, nameOf } from "./history.ts";
import { changeText, checkTarget, makeModel, reportMade, shardOf } from "./make_model.ts";
import { lossJson, lossText, type Measure, measure, measureFlags, measureOf } from "./measure.ts";
import { chosenDevice, files, modelFolder } from "./model_folder.ts";
import { Screen } from "./screen.ts";
import type { TextLoss } from "./text_loss.ts";
import { CommandError, type Flags, printJson } from "./verb.ts";

/** Flags of every switch. */
export const switchFlags = {
  boolean: ["dry-run", "json"],
  string: ["seed", "dtype", "shard", ...measureFlags],
  positional: ["MODEL", "TARGET"],
} as const;

/** Their part of the help. */
export const switchHelp =
  `  --text FILE      measure the loss on this text before and after; an exact change must keep it, or
                   nothing is written
  --sequence N     tokens that the model sees at once in this (default: 512, or what the model was
                   made for)
  --device NAME    on which device: auto, webgpu or reference
  --shard MB       begin a new weight file beyond this size (default: 5000)
  --dry-run        only say what would be done
  --json           one JSON object a line on stdout: plan, evaluation (before, after), made

The folder appears whole or not at all: an interrupted command leaves nothing but TARGET.partial,
which the next one removes as it starts again. Tensors are streamed, so a model may be larger than
the memory.`;

/** A larger model that is ready to be read. */
export interface Switch {
  readonly model: TensorSource;
  readonly dtype: (name: string) => DType;
  /** What will be done, for people; the last line says whether the function stays. */
  readonly lines: readonly string[];
  /** The function stays, up to rounding of f32. */
  readonly exact: boolean;
  /** For the card. */
  readonly step: string;
  /** Whole tensors held at a time; see `summarizeChange`. */
  readonly wholeTensors?: number;
  /** For --json. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** Runs a verb that switches. `prepare` reads its own flags. */
export async function runSwitch(
  name: string,
  flags: Flags,
  prepare: (checkpoint: Checkpoint) => Switch,
): Promise<number> {
  const [from, target] = flags.positional, json = flags.has("json"), dry = flags.has("dry-run");
  const shardBytes = shardOf(flags), on = await measureOf(flags);
  const checkpoint = await openCheckpoint(files, await modelFolder(from));
  const made = prepare(checkpoint);
  if (!dry) await checkTarget(target);
  const history = await historyOf(checkpoint);
  const screen = new Screen();
  try {
    const summary = summarizeChange(checkpoint.config, made.model.config, made.dtype, made.wholeTensors);
    if (json) {
      const { shapes: _, ...sizes } = summary;
      printJson({
        event: "plan",
        verb: name,
        model: checkpoint.folder,
        folder: target,
        exact: made.exact,
        lines: made.lines,
        options: made.options,
        ...sizes,
      });
    }
    screen.say([`${checkpoint.folder} -> ${target}`, ...made.lines, ...changeText(summary)].join("\n  "));
    if (dry) return 0;
    const losses = on === undefined ? [] : await compare(checkpoint, made, name, on, flags, screen);
    const provenance: Provenance = {
      ...history,
      name: nameOf(target),
      steps: [...history.steps, made.step],
      losses: [...history.losses, ...losses],
    };
    const model = {
      target,
      source: made.model,
      dtype: made.dtype,
      companionsFrom: checkpoint.folder,
      provenance,
      shardBytes,
    };
    reportMade(model, await makeModel(model, screen), json, screen);
    return 0;
  } finally {
    screen.end();
  }
}

/** Measures both models, the new one as it will be stored, and holds an exact change to its word. */
async function compare(
  checkpoint: Checkpoint,
  { model, dtype, exact }: Switch,
  verb: string,
  on: Measure,
  flags: Flags,
  screen: Screen,
): Promise<[string, string][]> {
  const tokenizer = await loadTokenizer(files, checkpoint.folder);
  const device = await chosenDevice(flags.text("device"));
  const one = async (when: "before" | "after", source: TensorSource) => {
    const loss = await measure(device, source, tokenizer, on, screen);
    if (flags.has("json")) printJson({ event: "evaluation", when, text: on.path, ...lossJson(loss) });
    screen.say(`${when.padEnd(6)} ${lossText(loss)} (${on.path})`);
    return loss;
  };
  try {
    const before = await one("before", checkpoint);
    const after = await one("after", asStored(model, dtype));
    if (exact) refuseChangedLoss(before, after, on.path);
    const sizes = [checkpoint.config, model.config].map((config) => countParameters(config).total);
    return [before, after].map((loss, i) => [
      `${nameOf(on.path)}, ${i === 0 ? "before" : "after"} ${verb} (${sizes[i].toLocaleString("en-US")} ` +
      "parameters)",
      lossText(loss),
    ]);
  } finally {
    device.close();
  }
}

/** @throws {CommandError} where a change that keeps the function did not keep the loss on a text. */
export function refuseChangedLoss(before: TextLoss, after: TextLoss, text: string): void {
  if (sameLoss(before.nll, after.nll)) return;
  throw new CommandError(
    `Nothing was written: this change keeps the function, yet the loss on ${text} went from ` +
      `${before.nll.toFixed(6)} to ${after.nll.toFixed(6)}. Either the device computes wrongly (volary ` +
      "doctor, --device reference) or this is a fault of the program; please report it.",
  );
}
