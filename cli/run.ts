/**
 * `volary run`: gives a recipe to the running coordinator and shows how it goes.
 *
 * @module
 */
import { dirname, join, relative, resolve } from "@std/path";
import type { RunLine } from "../coordinator/admission/owner_protocol.ts";
import { Report } from "../coordinator/report/report.ts";
import { limits } from "../mesh/limits.ts";
import { DEFAULT_STATE, Owner } from "./client.ts";
import { onInterrupt } from "./interrupt.ts";
import { Screen } from "./screen.ts";
import { readTextFile } from "./text_file.ts";
import { CommandError, printJson, readFlags, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "run",
  summary: "train a recipe on the workers that joined",
  help: `volary run RECIPE.toml [--resume] [--workers N] [--state ${DEFAULT_STATE}] [--json]

Goes through the recipe's phases (prepare, train, grow, upcycle, evaluate) on the coordinator that
\`volary up\` started. Says first what they will take. Its folder, STATE/NAME, gets checkpoints
(Hugging Face folders), metrics.jsonl, tensorboard/ and at the end report.html and report.json.
Ctrl-C saves a checkpoint and ends.

  --resume         go on from the last checkpoint, exactly: data order and optimizer state included
  --workers N      wait until N workers have joined
  --state FOLDER   the coordinator's folder
  --json           one JSON object a line on stdout for everything that happens

Exit code 0: done, or stopped by you; 1: failed.`,
  examples: [
    "run examples/tiny.toml",
    "run examples/tiny.toml --workers 3",
    "run examples/tiny.toml --resume",
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["resume", "json"],
      string: ["workers", "state"],
      positional: ["RECIPE.toml"],
    });
    const [path] = flags.positional, state = flags.text("state") ?? DEFAULT_STATE, json = flags.has("json");
    const workers = flags.number("workers", { min: 1, max: limits.members, integer: true });
    const recipe = await readTextFile(path, "recipe");
    const owner = await Owner.find(state);
    const screen = new Screen();
    const report = new Report(() => performance.now(), screen.live);
    const resumeCommand = `deno task volary run ${path} --resume` +
      (state === DEFAULT_STATE ? "" : ` --state ${state}`);
    let last: RunLine | undefined;
    const stopListening = onInterrupt(() => {
      if (last?.event === "done" || last?.event === "stopped") return; // it ends by itself
      screen.say(
        "Stopping: the step under way is finished and saved first. Ctrl-C again does not wait for it.",
      );
      owner.stop().catch((error) => screen.say(String(error.message)));
    });
    try {
      let folder = "", waiting = false;
      const base = resolve(dirname(path));
      for await (
        const line of owner.run({ recipe, base, resume: flags.has("resume"), resumeCommand, workers })
      ) {
        last = line;
        if (line.event === "plan") folder = shortened(line).folder;
        if (line.event === "error") throw notBegun(line);
        if (json) printJson(line);
        if (line.event === "waiting") {
          const text = `waiting for workers: ${line.have} of ${line.want} have joined`;
          if (screen.live) screen.replace(text);
          else if (!waiting) screen.say(text);
          waiting = true;
          continue;
        }
        const { text, live } = report.print(shortened(line));
        if (text !== undefined) screen.say(text);
        if (live !== undefined) screen.replace(live);
      }
      if (folder !== "" && (last?.event === "done" || last?.event === "stopped")) {
        screen.say(`Its curves are in ${join(folder, "report.html")}`);
      }
      if (last?.event === "done") return 0;
      if (last?.event === "stopped") return last.why === "asked" ? 0 : 1;
      throw new CommandError(
        "The coordinator ended in the middle of the run. Start it again, and resume with --resume.",
      );
    } finally {
      stopListening();
      screen.end();
    }
  },
};

/** What the coordinator said before anything began, as an error of ours with its name. */
function notBegun(line: Extract<RunLine, { event: "error" }>): Error {
  if (line.stack !== undefined) {
    const bug = new Error(line.message);
    bug.stack = line.stack;
    return bug;
  }
  return Object.defineProperty(new CommandError(line.message), "name", { value: line.name });
}

/** Paths as its user would type them. */
function shortened<T extends RunLine>(line: T): T {
  const short = (path: string) => {
    const near = relative(Deno.cwd(), path);
    return near.startsWith("..") ? path : near || ".";
  };
  const copy: Record<string, unknown> = { ...line };
  for (const key of ["path", "from", "folder"]) {
    if (typeof copy[key] === "string") copy[key] = short(copy[key]);
  }
  return copy as T;
}
