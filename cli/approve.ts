/**
 * `volary approve`: lets a worker in that waits, or was revoked.
 *
 * @module
 */
import { DEFAULT_STATE, Owner } from "./client.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "approve",
  summary: "let a worker in that waits, or was revoked",
  help: `volary approve WORKER [--state ${DEFAULT_STATE}] [--json]

Lets a worker in that waits because the coordinator was started with --approve, or that was revoked. Compare the fingerprint with
the one that \`volary join\` shows there.

  WORKER           its name, or the beginning of its fingerprint (see \`volary workers\`)
  --state FOLDER   the coordinator's folder
  --json           the worker as a JSON object on stdout`,

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["state"], positional: ["WORKER"] });
    const owner = await Owner.find(flags.text("state") ?? DEFAULT_STATE);
    const changed = await owner.change("approve", flags.positional[0]), { worker, fingerprint } = changed;
    if (flags.has("json")) printJson({ event: "approve", ...changed });
    else say(`${worker} may join (${fingerprint}).`);
    return 0;
  },
};
