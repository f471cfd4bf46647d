/**
 * `volary grow`: a wider and deeper model that starts from what a smaller one knows.
 *
 * @module
 */
import { readJson } from "../model/checkpoint/checkpoint.ts";
import { type ModelConfig, parseConfig } from "../model/config.ts";
import { joinPath } from "../model/files.ts";
import { describeGrowth, growModel, parseGrowthOptions } from "../model/growth/growth.ts";
import { dtypeOf } from "./make_model.ts";
import { files } from "./model_folder.ts";
import { runSwitch, switchFlags, switchHelp } from "./switch.ts";
import { type Flags, readFlags, UsageError, type Verb } from "./verb.ts";

const sizes = ["layers", "hidden", "ffn", "heads", "kv-heads"] as const;

export const verb: Verb = {
  name: "grow",
  summary: "make a dense model wider and deeper, keeping what it knows",
  help:
    `volary grow MODEL TARGET [--layers N] [--hidden N] [--ffn N] [--heads N] [--method fpi] [--depth identity] ...

Grows a dense model into a new folder. What is not named stays as it is; head size, vocabulary and
the number of key/value groups always stay (with one key/value head for each query head, they grow
along).

  --layers N       layers
  --hidden N       width of the residual stream
  --ffn N          width of the MLPs
  --heads N        query heads: a multiple of the key/value groups
  --kv-heads N     key/value heads, to write down what follows anyway
  --like CONFIG    all sizes from this config.json (or this model's folder); the other flags change
                   them
  --untie          give a head of its own to a model whose embedding serves as head

  --method NAME    fpi       every layer from itself: keeps the function (default)
                   aki       rows of new units come from the layer above: changes the loss, learns
                             faster afterwards
                   aki-pro   aki with depth by interpolation
                   aki-inner aki for heads and MLP neurons only
  --depth NAME     interpolate  layer l copies layer floor(l L / L2) (default)
                   stack        layer l copies layer l mod L
                   identity     as interpolate, but repeats write nothing at first: keeps the
                                function
  --width NAME     copies         exact where --hidden is a multiple (default)
                   scaled-copies  exact at any width
  --spread X       break the symmetry of copies, keeping the function: readers' shares differ by up
                   to X (0 to 1)
  --noise X        the same by normal noise of standard deviation X that cancels over the copies of
                   each unit
  --seed N         of spread and noise (default: 0)

  --dtype NAME     f32 (default), bf16 or f16
${switchHelp}`,
  examples: [
    "grow models/small models/large --hidden 4096 --layers 32 --depth identity --text valid.txt",
    "grow models/small models/large --like config.json --dry-run",
  ],

  async run(args) {
    const flags = readFlags(args, {
      ...switchFlags,
      boolean: [...switchFlags.boolean, "untie"],
      string: [...switchFlags.string, ...sizes, "like", "method", "depth", "width", "spread", "noise"],
    });
    const options = parseGrowthOptions({
      ...given(flags, ["method", "depth", "width"], (name) => flags.text(name)),
      ...given(flags, ["spread", "noise"], (name) => flags.number(name)),
      seed: flags.number("seed", { min: 0, max: 0xffff_ffff, integer: true }) ?? 0,
    });
    const dtype = dtypeOf(flags) ?? "F32";
    const like = flags.text("like"), model = like === undefined ? undefined : await readSizes(like);
    return await runSwitch("grow", flags, (checkpoint) => {
      const target = targetOf(checkpoint.config, model, flags);
      const { lines, exact } = describeGrowth(checkpoint.config, target, options);
      const grown = lines.filter((line) => !line.startsWith("approximate")).join(", ");
      const how = [
        options.method,
        `depth ${options.depth}`,
        `width ${options.width}`,
        ...(options.spread ? [`spread ${options.spread}`] : []),
        ...(options.noise ? [`noise ${options.noise}`] : []),
        ...(options.spread || options.noise ? [`seed ${options.seed}`] : []),
      ].join(", ");
      return {
        model: growModel(checkpoint, target, options),
        dtype: () => dtype,
        lines: [
          ...lines,
          how,
          exact
            ? dtype === "F32" ? "the function stays" : `the function stays, up to rounding to ${dtype}`
            : "the function changes: train on",
        ],
        exact: exact && dtype === "F32",
        step: `grown: ${grown} (${how})`,
        options: { ...options },
      };
    });
  },
};

/** The flags that were given, by name. */
function given<T>(flags: Flags, names: readonly string[], read: (name: string) => T): Record<string, T> {
  return Object.fromEntries(
    names.filter((name) => flags.text(name) !== undefined).map((name) => [name, read(name)]),
  );
}

/** The configuration of a config.json or of the folder that it lies in. @throws {ConfigError | CheckpointError} */
async function readSizes(path: string): Promise<ModelConfig> {
  return parseConfig(await readJson(files, path.endsWith(".json") ? path : joinPath(path, "config.json")));
}

/** The source with the sizes of `like`, where there is one, and what flags say on top. */
function targetOf(given: ModelConfig, like: ModelConfig | undefined, flags: Flags): ModelConfig {
  // What is no size (family, positions, losses) stays the source's own.
  const { modelType, maxPositions, balanceCoefficient, zCoefficient } = given;
  const source = like === undefined
    ? given
    : { ...like, modelType, maxPositions, balanceCoefficient, zCoefficient };
  const count = (name: typeof sizes[number]) => flags.number(name, { min: 1, integer: true });
  const heads = count("heads") ?? source.heads, multi = given.kvHeads === given.heads && like === undefined;
  const untie = flags.has("untie");
  if (untie && !given.tiedEmbeddings) throw new UsageError("--untie: this model's head is its own already.");
  const target: ModelConfig = {
    ...source,
    layers: count("layers") ?? source.layers,
    hiddenSize: count("hidden") ?? source.hiddenSize,
    intermediateSize: count("ffn") ?? source.intermediateSize,
    heads,
    kvHeads: count("kv-heads") ?? (multi ? heads : source.kvHeads),
    tiedEmbeddings: source.tiedEmbeddings && !untie,
  };
  const keys = Object.keys(target) as (keyof ModelConfig)[];
  if (keys.every((key) => target[key] === given[key])) {
    throw new UsageError(
      `Nothing would grow: give ${sizes.map((name) => `--${name}`).join(", ")} or --untie. The model has ` +
        `${given.layers} layers, hidden ${given.hiddenSize}, ffn ${given.intermediateSize}, ${given.heads} heads.`,
    );
  }
  return target;
}
