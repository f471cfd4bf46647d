/**
 * What can go wrong between peers, by stable names.
 *
 * @module
 */

/** A control message that is too large, no MessagePack, or not what its schema says. */
export class MessageError extends Error {
  override readonly name = "MessageError";
}

/** A tensor frame whose header or size is not what the plan says. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

/** A connection that could not be opened, or that is gone. */
export class LinkError extends Error {
  override readonly name = "LinkError";
}

/** An invite that cannot be read or has expired. */
export class InviteError extends Error {
  override readonly name = "InviteError";
}
