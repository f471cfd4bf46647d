/**
 * The program's verbs. Each is loaded when it is used, so that help comes at once and no verb pays for another.
 *
 * @module
 */
import type { Verb } from "./verb.ts";

/** A verb before it is loaded; the summary is the verb's own. */
export interface VerbEntry {
  readonly summary: string;
  readonly load: () => Promise<{ readonly verb: Verb }>;
}

/** By name, in the order of a first use. */
export const verbs: Readonly<Record<string, VerbEntry>> = {
  data: { summary: "prepare text: token shards, a tokenizer, tasks", load: () => import("./data.ts") },
  up: { summary: "start a coordinator and print how to join it", load: () => import("./up.ts") },
  join: { summary: "add this machine's device to a mesh", load: () => import("./join.ts") },
  run: { summary: "train a recipe on the workers that joined", load: () => import("./run.ts") },
  report: {
    summary: "a run's curves, switches and savings as one page",
    load: () => import("./report.ts"),
  },
  workers: { summary: "list who was admitted, waits or was shut out", load: () => import("./workers.ts") },
  invite: { summary: "make another invite to a coordinator that runs", load: () => import("./invite.ts") },
  approve: { summary: "let a worker in that waits, or was revoked", load: () => import("./approve.ts") },
  revoke: { summary: "shut a worker out and end its connection", load: () => import("./revoke.ts") },
  status: { summary: "show the workers and how far the run is", load: () => import("./status.ts") },
  plan: { summary: "show who would hold what, without training", load: () => import("./plan.ts") },
  sim: { summary: "try a recipe on a cluster that you need not have", load: () => import("./sim.ts") },
  grow: {
    summary: "make a dense model wider and deeper, keeping what it knows",
    load: () => import("./grow.ts"),
  },
  upcycle: {
    summary: "turn a dense model's MLPs into mixtures of experts",
    load: () => import("./upcycle.ts"),
  },
  import: {
    summary: "check a Hugging Face model and copy it, without losing a bit",
    load: () => import("./import.ts"),
  },
  export: {
    summary: "write a model as a Hugging Face folder with a model card",
    load: () => import("./export.ts"),
  },
  generate: { summary: "continue a text with a trained model", load: () => import("./generate.ts") },
  eval: { summary: "measure a model on a text: loss and bits per byte", load: () => import("./eval.ts") },
  inspect: {
    summary: "show a model's shape, size, copied units and routers",
    load: () => import("./inspect.ts"),
  },
  doctor: {
    summary: "check this machine: device, permissions, connections",
    load: () => import("./doctor.ts"),
  },
  conformance: {
    summary: "check cases with known answers on every device",
    load: () => import("./conformance.ts"),
  },
};
