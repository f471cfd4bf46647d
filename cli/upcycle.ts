/**
 * `volary upcycle`: every MLP of a dense model becomes a mixture of experts.
 *
 * @module
 */
import type { Checkpoint } from "../model/checkpoint/checkpoint.ts";
import type { DType } from "../model/dtypes.ts";
import { initialDeviation } from "../model/init.ts";
import { parameterTable } from "../model/tensors.ts";
import { defaultShare, denseName, upcycledConfig, upcycleModel } from "../model/growth/upcycle.ts";
import { dtypeOf } from "./make_model.ts";
import { runSwitch, switchFlags, switchHelp } from "./switch.ts";
import { type Flags, readFlags, UsageError, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "upcycle",
  summary: "turn a dense model's MLPs into mixtures of experts",
  help: `volary upcycle MODEL TARGET [--experts 8] [--experts-per-token 2] [--router-std 0.02] [--drop X]
       [--shared-expert] ...

Every expert is a copy of the MLP and routers are drawn at random. Gate weights sum to 1, so the
function stays for any router; --noise and --drop make experts differ and change it. A shared
expert, which every token visits beside its routed ones, takes over a share of the MLP's output and
leaves the rest to them: their down projections are multiplied by SHARE and 1 - SHARE, which is
exact for 0.5 and rounds each of those weights once for other shares.

  --experts N            experts of each layer (default: 8)
  --experts-per-token N  experts that a token visits (default: 2)
  --router-std X         standard deviation of the routers (default: ${initialDeviation})
  --router-variance X    the same as a variance
  --noise X              normal noise of this standard deviation on every expert's weights
  --drop X               Drop-Upcycling: each expert draws this share of its neurons anew (0 to 1)
  --shared-expert [SHARE]  add a shared expert, a copy of the MLP (SHARE above 0 and below 1;
                           default: ${defaultShare});
                         only the types volary and aquilamoe have one, so the model becomes volary
  --seed N               of everything drawn (default: 1)
  --balance X            coefficient of the balancing loss (default: 0.001)
  --z X                  coefficient of the router's z-loss (default: 0.01)

  --dtype NAME     keep (default: each copy as its original is stored), f32, bf16 or f16
${switchHelp}`,
  examples: [
    "upcycle models/large models/moe --experts 8 --experts-per-token 2 --text valid.txt",
    "upcycle models/large models/moe --experts 8 --drop 0.5 --dtype bf16",
  ],

  async run(args) {
    const flags = readFlags(args, {
      ...switchFlags,
      string: [
        ...switchFlags.string,
        "experts",
        "experts-per-token",
        "router-std",
        "router-variance",
        "noise",
        "drop",
        "balance",
        "z",
      ],
      optional: { "shared-expert": defaultShare },
    });
    const experts = flags.number("experts", { min: 1, integer: true }) ?? 8;
    const expertsPerToken = flags.number("experts-per-token", { min: 1, integer: true }) ?? 2;
    const balanceCoefficient = flags.number("balance", { min: 0 });
    const zCoefficient = flags.number("z", { min: 0 });
    const share = sharedShare(flags);
    const options = {
      seed: flags.number("seed", { min: 0, max: 0xffff_ffff, integer: true }) ?? 1,
      routerDeviation: routerDeviation(flags),
      noise: flags.number("noise", { min: 0 }) ?? 0,
      drop: flags.number("drop", { min: 0, max: 1 }) ?? 0,
      ...(share === undefined ? {} : { share }),
    };
    const dtype = dtypeOf(flags), changed = options.noise > 0 || options.drop > 0;
    return await runSwitch("upcycle", flags, (checkpoint) => {
      const target = upcycledConfig(checkpoint.config, {
        experts,
        expertsPerToken,
        shared: share !== undefined,
        ...(balanceCoefficient === undefined ? {} : { balanceCoefficient }),
        ...(zCoefficient === undefined ? {} : { zCoefficient }),
      });
      const what = `${experts} experts, ${expertsPerToken} a token` +
        (share === undefined ? "" : ", beside a shared expert");
      const how = [
        `router deviation ${options.routerDeviation}`,
        ...(share === undefined ? [] : [`share ${share} for the shared expert`]),
        ...(options.noise > 0 ? [`noise ${options.noise}`] : []),
        ...(options.drop > 0 ? [`${options.drop} of the neurons drawn anew`] : []),
        `seed ${options.seed}`,
      ].join(", ");
      const formats = dtype === undefined ? keptFormats(checkpoint, target) : () => dtype;
      // A narrower format rounds the copies; anything else holds them exactly.
      const narrower = dtype !== undefined && dtype !== "F32" && !storedAs(checkpoint, dtype);
      const rounded = narrower || (share !== undefined && roundsShares(target, share, formats));
      return {
        model: upcycleModel(checkpoint, target, options),
        dtype: formats,
        lines: [
          `dense -> ${what} in each of ${target.layers} layers (${checkpoint.config.modelType} -> ${target.modelType})`,
          how,
          changed
            ? "the function changes: experts differ from the start"
            : rounded
            ? `the function stays, up to rounding to ${dtype ?? "the stored formats"}`
            : share === undefined
            ? "the function stays: experts are copies"
            : "the function stays: experts are copies that share the output",
        ],
        exact: !changed && !rounded,
        step: `upcycled to ${what} (${how})`,
        // The tensor, what is drawn for it, and the copy that is handed out.
        wholeTensors: options.drop > 0 ? 3 : 0,
        options: { ...options, experts, expertsPerToken },
      };
    });
  },
};

function routerDeviation(flags: Flags): number {
  const deviation = flags.number("router-std", { min: 0 }),
    variance = flags.number("router-variance", { min: 0 });
  if (deviation !== undefined && variance !== undefined) {
    throw new UsageError("--router-std and --router-variance say the same thing twice: give one.");
  }
  return deviation ?? (variance === undefined ? initialDeviation : Math.sqrt(variance));
}

/** The shared expert's share; undefined for none. */
function sharedShare(flags: Flags): number | undefined {
  const share = flags.number("shared-expert");
  if (share !== undefined && !(share > 0 && share < 1)) {
    throw new UsageError(`--shared-expert takes a share above 0 and below 1, not ${share}.`);
  }
  return share;
}

/** Whether down projections times their shares lose bits in a narrow format: halves do not, but for the smallest f16. */
function roundsShares(target: Checkpoint["config"], share: number, format: (name: string) => DType): boolean {
  return parameterTable(target).some(({ name, role }) => {
    if (role !== "shared-down" && role !== "expert-down") return false;
    return format(name) === "F16" || (format(name) === "BF16" && share !== 0.5);
  });
}

/** Each copy in its original's format; routers, which have none, as the embedding is stored. */
function keptFormats(checkpoint: Checkpoint, target: Checkpoint["config"]): (name: string) => DType {
  const origin = new Map(
    parameterTable(target).map((spec) => [spec.name, denseName(spec) ?? "model.embed_tokens.weight"]),
  );
  return (name) => checkpoint.dtype(origin.get(name)!);
}

function storedAs(checkpoint: Checkpoint, dtype: DType): boolean {
  return checkpoint.table.every(({ name }) => checkpoint.dtype(name) === dtype);
}
