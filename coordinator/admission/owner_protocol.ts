/**
 * What the owner's commands and the coordinator say to each other over HTTP, and the file by which they find it.
 *
 * @module
 */
import { z } from "zod";
import { limits } from "../../mesh/limits.ts";
import type { RunEvent } from "../events.ts";

/** The file coordinator.json in the state folder, readable by its owner only. */
export const CoordinatorFile = z.strictObject({
  version: z.literal(1),
  /** Such as "http://127.0.0.1:7450". */
  address: z.url(),
  /** Bearer token of the owner's requests. */
  owner: z.string().min(1),
  /** Absolute path of the folder of all runs. */
  runs: z.string().min(1),
  /** Process id of `volary up`. */
  pid: z.int(),
});
export type CoordinatorFile = z.infer<typeof CoordinatorFile>;

/** Body of POST /run. */
export const RunBody = z.strictObject({
  /** The recipe's TOML. */
  recipe: z.string(),
  /** Absolute path to which the recipe's paths are relative. */
  base: z.string(),
  resume: z.boolean(),
  /** Shown where the run stops before its end. */
  resumeCommand: z.string(),
  /** Wait for this many workers first. */
  workers: z.int().min(1).max(limits.members).optional(),
});
export type RunBody = z.infer<typeof RunBody>;

/** Body of POST /approve and POST /revoke: a worker's name, or the beginning of its fingerprint. */
export const WorkerBody = z.strictObject({ worker: z.string().min(1).max(limits.nameLength) });

/** Body of POST /invite. */
export const InviteBody = z.strictObject({
  uses: z.int().min(1).max(limits.inviteUses),
  forMs: z.int().min(1).max(limits.inviteMs),
});

/** One line of the answer to POST /run. */
export type RunLine =
  | RunEvent
  | { readonly event: "waiting"; readonly have: number; readonly want: number }
  /** The run did not begin: for something that its user can put right, or (with a stack) for a bug. */
  | { readonly event: "error"; readonly name: string; readonly message: string; readonly stack?: string };
