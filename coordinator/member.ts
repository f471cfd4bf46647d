/**
 * A worker that was admitted, as the run sees it.
 *
 * @module
 */
import type { FromCoordinator, FromWorker, Part, Profile } from "../mesh/messages.ts";

/** An admitted worker. */
export interface Member {
  /** The name it joined with, unique among members. */
  readonly id: string;
  readonly profile: Profile;
  /** Sends one message; after the connection closed it does nothing. */
  send(message: FromCoordinator): void;
  /** Bytes queued to this worker, and a wait until they are few: what keeps a slow worker from filling our memory. */
  drained(bytes: number): Promise<void>;
  /** Called with what it says, but for heartbeats and answers to `pull`. A free member has none. */
  onmessage: ((message: FromWorker) => void) | undefined;
  /** Words `start`.. of one part of a tensor that it holds: little-endian f32. Rejects when the connection closes. */
  pull(tensor: string, part: Part, start: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Resolves with the reason once it is gone. */
  readonly closed: Promise<string>;
  close(reason: string): void;
}
