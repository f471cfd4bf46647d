/**
 * Which errors are for users (one paragraph) and which are bugs (the stack and a word about it).
 *
 * @module
 */
import { CoordinatorError } from "../coordinator/errors.ts";
import { DeviceError } from "../kernels/errors.ts";
import {
  ClockError,
  FrameError,
  InviteError,
  KeyFileError,
  LinkError,
  MessageError,
} from "../mesh/errors.ts";
import { ModelError } from "../model/errors.ts";
import { CommandError, UsageError } from "./verb.ts";

/** Classes whose messages were written for users; see also {@linkcode explain}. */
const ours = [
  CommandError,
  UsageError,
  CoordinatorError,
  ModelError,
  DeviceError,
  InviteError,
  ClockError,
  KeyFileError,
  LinkError,
  MessageError,
  FrameError,
];
/** Names of errors that cross a thread or a wire without their class. */
const oursByName = new Set(["RefusedError", "PlanViolationError", "ThreadError"]);

/** The paragraph for a user, or undefined for a bug of this program. */
export function explain(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (ours.some((type) => error instanceof type) || oursByName.has(error.name)) return error.message;
  if (error instanceof Deno.errors.NotCapable) {
    const flag = error.message.match(/--allow-[a-z]+/)?.[0];
    return `Deno was started without a permission that this needs${flag ? ` (${flag})` : ""}: ` +
      `${error.message} \`deno task volary\` has all of them.`;
  }
  // What the operating system says about files: its message names the path.
  if (
    error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied ||
    error instanceof Deno.errors.AlreadyExists || error instanceof Deno.errors.IsADirectory ||
    error instanceof Deno.errors.NotADirectory || (error as { code?: unknown }).code === "ENOSPC"
  ) return error.message;
  return undefined;
}

/** 2 for a wrong command line, 1 for everything else. */
export function exitCode(error: unknown): 1 | 2 {
  return error instanceof UsageError ? 2 : 1;
}
