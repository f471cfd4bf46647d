/**
 * Time, chance and the outside world, handed in: whatever waits, draws or talks takes them from here, so that a whole
 * mesh can run on one thread under a virtual clock.
 *
 * @module
 */

/** A timer that has not fired yet. */
export interface Timer {
  cancel(): void;
}

/** Time. */
export interface Clock {
  /** Milliseconds from some fixed point; never goes back. */
  now(): number;
  /** Milliseconds since 1970, for expiry dates and logs only. */
  wall(): number;
  /** Calls `fire` once, after `ms` milliseconds. */
  timer(ms: number, fire: () => void): Timer;
}

/** Chance, for secrets and nonces. What a run draws comes from its seed instead. */
export interface Chance {
  /** `count` unpredictable bytes. */
  random(count: number): Uint8Array<ArrayBuffer>;
}

/**
 * A two-way road for whole binary messages, in order: a WebSocket to the coordinator, one data channel to a peer, or a
 * pair of arrays in memory.
 */
export interface Channel {
  /** Queues one message. Throws when closed or when `message` is larger than `maxMessage`. */
  send(message: Uint8Array<ArrayBuffer>): void;
  /** Bytes queued and not yet handed to the network. */
  buffered(): number;
  /** Resolves once `buffered()` is at or under `bytes`, or the channel closed. */
  drained(bytes: number): Promise<void>;
  /** Called with each message that arrives; set once, before the first await after getting the channel. */
  onmessage: ((message: Uint8Array<ArrayBuffer>) => void) | undefined;
  /** Takes a message's memory back, which nobody may read any more: where it would otherwise wait to be collected. */
  spent?(message: Uint8Array<ArrayBuffer>): void;
  /** Called when a part of a large message arrives: the other end lives, although no message is complete. */
  onactivity?: (() => void) | undefined;
  /** Resolves with the reason once the channel is closed by either side or by a fault. */
  readonly closed: Promise<string>;
  /** Largest message in bytes. */
  readonly maxMessage: number;
  /** Size of messages at which it is fastest, where that is not `limits.pieceBytes`. */
  readonly pieceBytes?: number;
  /** Largest message that is taken from the other end, where the channel puts messages together; may be set. */
  acceptBytes?: number;
  /** For people: "webrtc (werift)", "memory", "websocket". */
  readonly kind: string;
  /** What makes this connection unlike every other; asked for once it is open. */
  readonly binding: ChannelBinding;
  close(reason?: string): void;
}

/**
 * What two ends of one connection have in common and nobody between them can have with both: a signature over it holds
 * for this connection alone.
 */
export interface ChannelBinding {
  /** Equal at both ends, and different for any two connections: what DTLS agreed on, the number of a pair in memory. */
  readonly shared?: Uint8Array;
  /** SHA-256 of the certificates that were used, as in a session's description. */
  readonly certificates?: { readonly own: string; readonly peer: string };
  /** Whether this end's stack made the other end prove that it has its certificate's private key. */
  readonly proven: boolean;
}

/** Durable bytes by name: checkpoints, journals, shards. */
export interface Storage {
  /** Bytes `start`..`end` of a file. */
  read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  size(path: string): Promise<number | undefined>;
  /** Writes `bytes` at `position`, making the file where it is missing. */
  write(path: string, position: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Returns once the file's (or folder's) contents are on the disk. */
  sync(path: string): Promise<void>;
  /** Moves a file or folder, replacing a file that stood there. */
  rename(from: string, to: string): Promise<void>;
  makeFolder(path: string): Promise<void>;
  list(path: string): Promise<string[]>;
  remove(path: string): Promise<void>;
  /** Bytes that are free for files in a folder (or where it would be made); undefined where nobody knows. */
  free?(path: string): Promise<number | undefined>;
}

/** Makes the data channels between two workers. The two ends call it with the same `link` and opposite `initiator`. */
export interface Transport {
  readonly kind: string;
  /**
   * Opens one channel. `signal` carries what the two ends must tell each other first, over the coordinator.
   * Rejects with a `LinkError` after `limits.connectMs`.
   */
  open(signal: Signal, initiator: boolean): Promise<Channel>;
  /** Channels side by side that fill a road of this round trip (ms), where one does not. Absent: one is enough. */
  readonly paths?: (roundTrip: number) => number;
}

/** The road on which two ends agree on a connection before they have one. */
export interface Signal {
  send(body: unknown): void;
  /** Called for each body from the other end, in order; bodies that came earlier are kept and delivered on setting. */
  onbody: ((body: unknown) => void) | undefined;
}

/** Everything that mesh/, coordinator/ and worker/ take from outside. */
export interface Runtime extends Clock, Chance {
  readonly storage: Storage;
}
