/**
 * `volary report`: writes a run's report anew, beside a run from scratch where there is one.
 *
 * @module
 */
import { relative } from "@std/path";
import { duration, number, quantity } from "../coordinator/amounts.ts";
import { writeReport } from "../coordinator/report/report_files.ts";
import { files } from "./model_folder.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "report",
  summary: "a run's curves, switches and savings as one page",
  help: `volary report RUN [--against RUN] [--json]

Writes report.html (one page that needs nothing else) and report.json into a run's folder: loss
against tokens and against compute with the switches marked, load of experts, learning rate,
throughput, and what the recipe saved. A run that ends has them already; while one is under way this
shows how far it is.

  --against RUN    a run from scratch: the saving factors are measured against it, at this run's
                   last validation loss. Without it they are against a stated extrapolation
  --json           the report as one JSON object on stdout`,
  examples: ["report runs/tiny", "report runs/grown --against runs/scratch --json"],

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["against"], positional: ["RUN"] });
    const { data, page } = await writeReport(files, flags.positional[0], flags.text("against"));
    if (flags.has("json")) printJson({ event: "report", ...data });
    const { total, validations, savings } = data, last = validations.at(-1);
    say(
      `${data.name} (${data.state}): ${number(total.tokens)} tokens, ${quantity(total.flops, "FLOP")}, ` +
        `${duration(total.seconds)} of steps` +
        (last?.nll == null ? "" : `, validation nll ${last.nll.toFixed(4)}`),
    );
    if (savings !== null) {
      say(
        `Saved against training from scratch (${savings.against}): time ${savings.time.toFixed(2)} x, ` +
          `compute ${savings.compute.toFixed(2)} x, operations ${savings.arithmetic.toFixed(2)} x`,
      );
    }
    say(`The page is ${relative(Deno.cwd(), page) || page}`);
    return 0;
  },
};
