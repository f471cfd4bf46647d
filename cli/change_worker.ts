/**
 * What `volary approve` and `volary revoke` have in common: the owner names a worker, and its state changes.
 *
 * @module
 */
import { DEFAULT_STATE, Owner } from "./client.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

/** A verb that changes the state of a worker. `help` says what it means, `told` what came of it. */
export function changeWorker(
  name: "approve" | "revoke",
  { summary, help, told }: {
    readonly summary: string;
    readonly help: string;
    readonly told: (worker: string, fingerprint: string) => string;
  },
): Verb {
  return {
    name,
    summary,
    help: `volary ${name} WORKER [--state ${DEFAULT_STATE}] [--json]

${help}

  WORKER           its name, or the beginning of its fingerprint (see \`volary workers\`)
  --state FOLDER   the coordinator's folder
  --json           the worker as a JSON object on stdout`,
    examples: [`${name} laptop-6b0b`, `${name} 6b0b-aa8d --json`],

    async run(args) {
      const flags = readFlags(args, { boolean: ["json"], string: ["state"], positional: ["WORKER"] });
      const owner = await Owner.find(flags.text("state") ?? DEFAULT_STATE);
      const changed = await owner.change(name, flags.positional[0]);
      if (flags.has("json")) printJson({ event: name, ...changed });
      else say(told(changed.worker, changed.fingerprint));
      return 0;
    },
  };
}
