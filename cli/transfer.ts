/**
 * A model from one folder to another as it is: what `volary import` and `volary export` share.
 *
 * @module
 */
import { number } from "../coordinator/amounts.ts";
import type { Checkpoint } from "../model/checkpoint/checkpoint.ts";
import type { DType } from "../model/dtypes.ts";
import type { TensorSource } from "../model/source.ts";
import { countParameters } from "../model/tensors.ts";
import { historyOf, nameOf } from "./history.ts";
import { checkTarget, dtypeOf, makeModel, reportMade, shardOf } from "./make_model.ts";
import { Screen } from "./screen.ts";
import type { Flags } from "./verb.ts";

/** Flags of both. */
export const transferFlags = { boolean: ["json"], string: ["dtype", "shard"] } as const;

/** What goes where. */
export interface Transfer {
  readonly checkpoint: Checkpoint;
  /** The checkpoint, perhaps under another type. */
  readonly source: TensorSource;
  readonly target: string;
  /** Formats where --dtype asks for no other. */
  readonly kept: (name: string) => DType;
  /** For the card; none where nothing was done that belongs to the model's history. */
  readonly step: string | undefined;
  readonly name?: string;
  readonly license?: string;
}

/** Copies, and answers with the exit code. */
export async function transfer(flags: Flags, what: Transfer): Promise<number> {
  const { checkpoint, source, target, step } = what;
  const dtype = dtypeOf(flags), shardBytes = shardOf(flags);
  await checkTarget(target);
  const history = await historyOf(checkpoint);
  const screen = new Screen();
  const model = {
    target,
    source,
    dtype: dtype === undefined ? what.kept : () => dtype,
    companionsFrom: checkpoint.folder,
    provenance: {
      ...history,
      name: what.name ?? nameOf(target),
      steps: [...history.steps, ...(step === undefined ? [] : [step])],
      ...(what.license === undefined ? {} : { license: what.license }),
    },
    shardBytes,
  };
  try {
    screen.say(
      `${checkpoint.folder} -> ${target}: ${source.config.modelType}, ` +
        `${number(countParameters(source.config).total)} parameters`,
    );
    reportMade(model, await makeModel(model, screen), flags.has("json"), screen);
    return 0;
  } finally {
    screen.end();
  }
}
