/**
 * `volary status`: who is there and how far the run is.
 *
 * @module
 */
import type { Status } from "../coordinator/coordinator.ts";
import type { WorkerStep } from "../coordinator/events.ts";
import { quantity, size, table } from "../coordinator/amounts.ts";
import { planText, Report } from "../coordinator/report/report.ts";
import { DEFAULT_STATE, Owner } from "./client.ts";
import { lentText } from "./lent.ts";
import { printJson, readFlags, say, type Verb } from "./verb.ts";

export const verb: Verb = {
  name: "status",
  summary: "show the workers and how far the run is",
  help: `volary status [--state ${DEFAULT_STATE}] [--json]

Shows who joined, with measured speed and memory of what they lend, and the last step of the run
under way with what each link did in it.

  --state FOLDER   the coordinator's folder
  --json           everything as one JSON object on stdout`,
  examples: ["status", "status --json"],

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["state"] });
    const owner = await Owner.find(flags.text("state") ?? DEFAULT_STATE);
    const status = await owner.status();
    if (flags.has("json")) printJson({ event: "status", address: owner.file.address, ...status });
    else say(statusText(owner.file.address, status));
    return 0;
  },
};

/** A status as text for people. */
export function statusText(address: string, { workers, run }: Status): string {
  const lines = [`Coordinator at ${address}`];
  if (workers.length === 0) lines.push("No worker has joined.");
  else {
    const rows = workers.map((w) => [
      w.worker,
      w.kind,
      quantity(w.flops, "FLOPS"),
      quantity(w.bandwidth, "B/s"),
      size(w.memory),
      lentText(w.lent),
      w.device,
    ]);
    lines.push(
      ...table([["worker", "device", "speed", "memory speed", "memory", "lent", ""], ...rows]).map((l) =>
        `  ${l}`
      ),
    );
  }
  if (run === null) return [...lines, "Nothing has been run since it started."].join("\n");
  lines.push(run.active ? `Running ${run.name}` : `The last run was ${run.name}`);
  const report = new Report(() => 0, false, 0);
  if (run.plan?.event === "plan") lines.push(planText(run.plan));
  for (const event of [run.step, run.evaluation, run.checkpoint, run.end]) {
    const text = event && report.print(event).text;
    if (text) lines.push(text);
  }
  if (run.step?.event === "step") lines.push(...linksText(run.step.workers));
  return lines.join("\n");
}

/** A line for each direction of each link, as its sender saw it in the last step. */
function linksText(workers: readonly WorkerStep[]): string[] {
  const rows = workers.flatMap(({ worker, links = [] }) =>
    links.map(({ peer, roundTrip, goodput, resent, creditWaits, paths }) => [
      `${worker} to ${peer}`,
      // Before its first ping a link knows no round trip.
      typeof roundTrip === "number" && Number.isFinite(roundTrip) ? `${roundTrip.toFixed(1)} ms` : "-",
      goodput > 0 ? quantity(goodput, "B/s") : "-",
      String(paths),
      String(resent),
      String(creditWaits),
    ])
  );
  if (rows.length === 0) return [];
  const head = ["link", "round trip", "goodput", "connections", "sent again", "waits for credit"];
  return table([head, ...rows]).map((line) => `  ${line}`);
}
