/**
 * `volary revoke`: shuts a worker out and ends its connection.
 *
 * @module
 */
import { DEFAULT_STATE, Owner } from "./client.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "revoke",
  summary: "shut a worker out and end its connection",
  help: `volary revoke WORKER [--state ${DEFAULT_STATE}] [--json]

Shuts a worker out: its connection ends (a run that needs it stops with its last checkpoint), its key is refused from now on, and
the invite that it came with admits nobody new, as its owner still has it. Workers that were admitted before stay so.

  WORKER           its name, or the beginning of its fingerprint (see \`volary workers\`)
  --state FOLDER   the coordinator's folder
  --json           the worker as a JSON object on stdout`,

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["state"], positional: ["WORKER"] });
    const owner = await Owner.find(flags.text("state") ?? DEFAULT_STATE);
    const changed = await owner.change("revoke", flags.positional[0]), { worker, fingerprint } = changed;
    if (flags.has("json")) printJson({ event: "revoke", ...changed });
    else {
      say(
        `${worker} is shut out (${fingerprint}). Its invite admits nobody new; for others: volary invite`,
      );
    }
    return 0;
  },
};
