/**
 * `volary workers`: who was let into the mesh, who waits and who was shut out.
 *
 * @module
 */
import type { Known } from "../coordinator/admission/membership.ts";
import { table } from "../coordinator/amounts.ts";
import { DEFAULT_STATE, Owner } from "./client.ts";
import { lentText } from "./lent.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "workers",
  summary: "list who was admitted, waits or was shut out",
  help: `volary workers [--state ${DEFAULT_STATE}] [--json]

Lists every worker that the coordinator knows by its key, with the key's fingerprint and its state:
joined (it is connected), away (admitted, not connected), waiting (for \`volary approve\`) or
revoked.

  --state FOLDER   the coordinator's folder
  --json           everything as one JSON object on stdout`,
  examples: ["workers", "workers --json"],

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["state"] });
    const workers = await (await Owner.find(flags.text("state") ?? DEFAULT_STATE)).workers();
    if (flags.has("json")) printJson({ event: "workers", workers });
    else say(workersText(workers));
    return 0;
  },
};

/** Known workers as a table for people. */
export function workersText(workers: readonly Known[]): string {
  if (workers.length === 0) return "No worker has come with an invite yet.";
  const rows = workers.map(({ worker, fingerprint, state, since, joined, lent }) => [
    worker || "(no name yet)",
    fingerprint,
    state === "admitted" ? (joined ? "joined" : "away") : state,
    `since ${new Date(since).toISOString().slice(0, 16).replace("T", " ")} UTC`,
    lentText(lent),
  ]);
  return table([["worker", "fingerprint", "state", "", "lent"], ...rows]).join("\n");
}
