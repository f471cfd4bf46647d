/**
 * A worker that was admitted, as the run sees it.
 *
 * @module
 */
import type { Heard, PullRequest } from "../mesh/control/control.ts";
import type { Delegation } from "../mesh/identity/identity.ts";
import type { FromCoordinator, FromWorker, Profile } from "../mesh/control/messages.ts";

/** What a member says, but for heartbeats and tensors, which the connection itself answers. */
export type MemberMessage = Heard<FromWorker>;

/** An admitted worker. */
export interface Member {
  /** The name it joined with, unique among members. */
  readonly id: string;
  readonly profile: Profile;
  /** Sends one message; after the connection closed it does nothing. */
  send(message: FromCoordinator): void;
  /** Resolves when at most `bytes` are queued to it: what keeps a slow worker from filling our memory. */
  drained(bytes: number): Promise<void>;
  /** Called with what it says. A free member has none. */
  onmessage: ((message: MemberMessage) => void) | undefined;
  /** Answers its pulls. A free member may not pull. */
  onpull: ((request: PullRequest) => Promise<Uint8Array<ArrayBuffer>>) | undefined;
  /** Words of one part of a tensor that it holds: little-endian f32. Rejects when the connection closes. */
  pull(request: PullRequest): Promise<Uint8Array<ArrayBuffer>>;
  /** The coordinator's word that this worker's key speaks for it in a run, from now on for `limits.delegationMs`. */
  delegate(run: string): Promise<Delegation>;
  /** Resolves with the reason once it is gone. */
  readonly closed: Promise<string>;
  close(reason: string): void;
}

/** Somebody came, went, or was not let in. */
export type MemberEvent =
  | { readonly event: "joined"; readonly worker: string; readonly device: string; readonly flops: number }
  | { readonly event: "left"; readonly worker: string; readonly reason: string }
  | { readonly event: "refused"; readonly reason: string }
  /** It has an invite, but the owner must approve it. */
  | { readonly event: "waiting"; readonly worker: string; readonly fingerprint: string };
