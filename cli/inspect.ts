/**
 * `volary inspect`: what is in a model's folder.
 *
 * @module
 */
import { number, size, table } from "../coordinator/amounts.ts";
import { openCheckpoint } from "../model/checkpoint/checkpoint.ts";
import { configToJson, type ModelConfig } from "../model/config.ts";
import { inspectModel, type ModelReport, type UnitReport } from "../model/checkpoint/inspect.ts";
import { loadTokenizer } from "../model/text/load_tokenizer.ts";
import { countParameters } from "../model/tensors.ts";
import { lossJson, lossText, measure, measureFlags, measureOf, spreadOfLoad } from "./measure.ts";
import { chosenDevice, files, modelFolder } from "./model_folder.ts";
import { Screen } from "./screen.ts";
import type { TextLoss } from "./text_loss.ts";
import { printJson, readFlags, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "inspect",
  summary: "show a model's shape, size, copied units and routers",
  help: `volary inspect MODEL [--tensors] [--text FILE] [--json]

Shows a model's configuration and size; reads every weight once and says which units are bit for bit
copies of each other (as after growing or upcycling, until training parts them), which layers write
nothing yet, what the routers look like, and whether a weight is not finite.

  --tensors       a line for each tensor: shape, norm, root mean square, largest value
  --text FILE     run the model over this text as well: loss, and how much each expert gets
  --sequence N    tokens that the model sees at once in this (default: 512, or what the model was
                  made for)
  --device NAME   on which device: auto, webgpu or reference
  --json          one JSON object on stdout`,
  examples: ["inspect runs/tiny", "inspect models/moe --text valid.txt"],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["tensors", "json"],
      string: measureFlags,
      positional: ["MODEL"],
    });
    const checkpoint = await openCheckpoint(files, await modelFolder(flags.positional[0]));
    const { config, folder } = checkpoint, on = await measureOf(flags);
    const screen = new Screen();
    try {
      const report = await inspectModel(
        checkpoint,
        (read, total) => screen.replace(`${(100 * read / total).toFixed(0)} % read`),
      );
      const broken = report.tensors.filter(({ norm }) => norm === null);
      let loss: TextLoss | undefined;
      if (on !== undefined && broken.length === 0) {
        const device = await chosenDevice(flags.text("device"));
        try {
          loss = await measure(device, checkpoint, await loadTokenizer(files, folder), on, screen);
        } finally {
          device.close();
        }
      }
      if (flags.has("json")) {
        const { tensors, ...rest } = report;
        printJson({
          event: "inspected",
          folder,
          config: configToJson(config),
          parameters: countParameters(config).total,
          tensors: tensors.map((tensor) => ({ ...tensor, dtype: checkpoint.dtype(tensor.name) })),
          ...rest,
          ...(loss === undefined ? {} : { text: on!.path, ...lossJson(loss) }),
        });
      }
      screen.say([
        ...shape(folder, config),
        ...unitLines(report.units),
        ...(report.silentLayers.length > 0
          ? [`layers that write nothing yet: ${report.silentLayers.join(", ")}`]
          : []),
        ...routerLines(report, loss),
        ...(flags.has("tensors") ? tensorLines(report, checkpoint.dtype) : []),
        ...(loss === undefined ? [] : [`${on!.path}: ${lossText(loss)}`]),
        broken.length === 0
          ? "Every weight is finite."
          : `${broken.length} ${broken.length === 1 ? "tensor holds" : "tensors hold"} weights that are ` +
            "not finite: " +
            broken.slice(0, 3).map(({ name }) => name).join(", ") + (broken.length > 3 ? ", ..." : "") + ".",
      ].join("\n"));
      return broken.length === 0 ? 0 : 1;
    } finally {
      screen.end();
    }
  },
};

function shape(folder: string, config: ModelConfig): string[] {
  const { total, active } = countParameters(config);
  const kind = config.experts > 0
    ? `${config.experts} experts, ${config.expertsPerToken} a token` +
      (config.sharedExpert > 0 ? `, beside a shared expert of width ${config.sharedExpert}` : "") +
      (config.ladderResidual ? ", ladder residual" : "") +
      ` (${number(active)} parameters active)`
    : "dense";
  return [
    `${folder}: ${config.modelType}, ${number(total)} parameters (${size(4 * total)} as f32), ${kind}`,
    ...table([
      ["hidden", `${config.hiddenSize}`, "layers", `${config.layers}`],
      [
        "ffn",
        `${config.intermediateSize}`,
        "heads",
        `${config.heads} (${config.kvHeads} key/value) of ${config.headDim}`,
      ],
      ["vocabulary", `${config.vocabSize}`, "embedding and head", config.tiedEmbeddings ? "tied" : "apart"],
    ]).map((line) => `  ${line}`),
  ];
}

const unitNames: Readonly<Record<UnitReport["unit"], string>> = {
  "hidden": "dimensions of the residual stream",
  "neurons": "MLP neurons",
  "heads": "query heads",
  "kv-heads": "key/value heads",
  "experts": "experts",
};

/** A line for each kind of unit of which some are copies. */
function unitLines(units: readonly UnitReport[]): string[] {
  return (Object.keys(unitNames) as UnitReport["unit"][]).flatMap((unit) => {
    const some = units.filter((report) => report.unit === unit && report.distinct < report.units);
    if (some.length === 0) return [];
    const all = units.filter((report) => report.unit === unit);
    const sum = (key: "units" | "distinct") => all.reduce((total, report) => total + report[key], 0);
    const where = unit === "hidden" ? "" : ` in ${some.length} of ${all.length} layers`;
    return [
      `copies: ${sum("units") - sum("distinct")} of ${sum("units")} ${unitNames[unit]} repeat another ` +
      `bit for bit${where}`,
    ];
  });
}

function routerLines({ routers }: ModelReport, loss: TextLoss | undefined): string[] {
  if (routers.length === 0) return [];
  const rows = routers.map(({ layer, deviation, least, most, closest }, i) => {
    const load = loss?.load[i], spread = load && spreadOfLoad(load);
    return [
      `  layer ${layer}`,
      `deviation ${deviation.toPrecision(3)}`,
      `row norms ${least.toPrecision(3)} to ${most.toPrecision(3)}`,
      ...(closest === undefined ? [] : [`closest pair ${closest.toFixed(3)}`]),
      ...(spread === undefined
        ? []
        : [`load ${spread.least.toFixed(2)} to ${spread.most.toFixed(2)} x an even share`]),
    ];
  });
  return ["routers:", ...table(rows)];
}

function tensorLines({ tensors }: ModelReport, dtype: (name: string) => string): string[] {
  const digits = (value: number | null) => value === null ? "not finite" : value.toPrecision(4);
  return table(tensors.map(({ name, shape, norm, rms, most }) => [
    name,
    `[${shape.join(", ")}]`,
    dtype(name),
    `norm ${digits(norm)}`,
    `rms ${digits(rms)}`,
    `largest ${digits(most)}`,
  ]));
}
