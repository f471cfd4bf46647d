/**
 * `volary inspect`: what is in a model's folder.
 *
 * @module
 */
import { number, size, table } from "../coordinator/report.ts";
import { configToJson } from "../model/config.ts";
import { pieces } from "../model/source.ts";
import { files, modelFolder } from "./model_folder.ts";
import { openCheckpoint } from "../model/checkpoint.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "inspect",
  summary: "show a model's shape, size and tensors",
  help: `volary inspect MODEL [--tensors] [--json]

Shows a model's configuration and size; reads every weight once and says whether one is not finite.

  --tensors   a line for each tensor: shape, root mean square, largest value
  --json      one JSON object on stdout`,

  async run(args) {
    const flags = readFlags(args, { boolean: ["tensors", "json"], positional: ["MODEL"] });
    const checkpoint = await openCheckpoint(files, await modelFolder(flags.positional[0]));
    const { config } = checkpoint;
    let parameters = 0, broken = 0;
    const tensors = [];
    for (const { name, shape } of checkpoint.table) {
      const length = shape.reduce((product, n) => product * n, 1);
      let squares = 0, most = 0, finite = true;
      for (const [start, count] of pieces(length)) {
        for (const value of await checkpoint.read(name, start, count)) {
          squares += value * value;
          most = Math.max(most, Math.abs(value));
          finite &&= Number.isFinite(value);
        }
      }
      parameters += length;
      if (!finite) broken++;
      const rms = Math.sqrt(squares / length);
      tensors.push({
        name,
        shape,
        dtype: checkpoint.dtype(name),
        rms: finite ? rms : null,
        most: finite ? most : null,
      });
    }
    if (flags.has("json")) {
      printJson({
        event: "inspected",
        folder: checkpoint.folder,
        config: configToJson(config),
        parameters,
        tensors,
      });
    }
    const kind = config.experts > 0
      ? `${config.experts} experts, ${config.expertsPerToken} a token`
      : "dense";
    say([
      `${checkpoint.folder}: ${config.modelType}, ${number(parameters)} parameters (${
        size(4 * parameters)
      } as f32), ${kind}`,
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
      ...(flags.has("tensors")
        ? table(tensors.map(({ name, shape, dtype, rms, most }) => [
          name,
          `[${shape.join(", ")}]`,
          dtype,
          `rms ${rms === null ? "not finite" : rms.toPrecision(4)}`,
          `largest ${most === null ? "not finite" : most.toPrecision(4)}`,
        ]))
        : []),
      broken === 0
        ? "Every weight is finite."
        : `${broken} tensors hold weights that are not finite (--tensors).`,
    ].join("\n"));
    return broken === 0 ? 0 : 1;
  },
};
