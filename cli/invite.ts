/**
 * `volary invite`: makes another invite to a coordinator that runs.
 *
 * @module
 */
import { DEFAULT_STATE, Owner } from "./client.ts";
import { DEFAULT_TERMS, termsOf } from "./terms.ts";
import { printJson, readFlags, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "invite",
  summary: "make another invite to a coordinator that runs",
  help:
    `volary invite [--uses ${DEFAULT_TERMS.uses}] [--expires ${DEFAULT_TERMS.expires}] [--state ${DEFAULT_STATE}] [--json]

Prints a line to join with. A worker that was admitted once joins again without using an invite up.

  --uses N         workers that it admits; 1: a single one
  --expires TIME   how long it is good, for instance 30m, 2h or 7d
  --state FOLDER   the coordinator's folder
  --json           the line as a JSON object on stdout`,
  examples: ["invite", "invite --uses 1 --expires 30m"],

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["uses", "expires", "state"] });
    const terms = termsOf(flags, "uses");
    const owner = await Owner.find(flags.text("state") ?? DEFAULT_STATE);
    const invite = await owner.invite(terms);
    if (flags.has("json")) printJson({ event: "invite", invite, ...terms });
    else console.log(invite); // alone on its line, so that it can be passed on
    return 0;
  },
};
