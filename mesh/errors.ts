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
  override readonly name: string = "LinkError";
}

/** The other end is not who it should be, or could not show it; nothing else of it was read. */
export class HandshakeError extends LinkError {
  override readonly name = "HandshakeError";
}

/** Two machines' clocks are too far apart for anything that has a time to hold. */
export class ClockError extends Error {
  override readonly name = "ClockError";
}

/** A key file that must not be used as it is. */
export class KeyFileError extends Error {
  override readonly name = "KeyFileError";
}

/** An invite that cannot be read. */
export class InviteError extends Error {
  override readonly name = "InviteError";
}
