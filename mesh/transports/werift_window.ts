/**
 * How much a werift association has under way. werift 0.25.2 hardly widens its window again once datagrams were lost: it
 * counts what arrives only while the window is full to the last byte, which holds for one of many acknowledgements that
 * come together. And it fills more of the road than the other end's socket holds.
 *
 * @module
 */

/** What is reached inside werift. */
interface Association {
  cwnd: number;
  ssthresh?: number;
  readonly maxPayloadSize: number;
  readonly outboundQueue: { readonly length: number };
  flightSizeDecrease(chunk: Chunk): void;
}
interface Chunk {
  readonly bookSize: number;
  /** It counts as lost. */
  readonly retransmit?: boolean;
}

/**
 * Chunks under way at most. Linux gives a socket 208 KiB, of which a datagram of ours takes 2,304 bytes, so that 92 may
 * wait for a program that is busy for a moment; Deno cannot change that. Links that need more take several connections.
 */
export const MOST_CHUNKS = 84;
/** Chunks after a loss, at least (RFC 9260, 7.2.3). */
const LEAST_CHUNKS = 4;
/** What is left of the window after a loss, and how much slower it grows until it is as wide again (RFC 9438, 4.3). */
const LEFT = 0.7, SLOWER = 3 * (1 - LEFT) / (1 + LEFT);

/**
 * Takes over an association's window, before it is used. It grows by what arrives while more waits to be sent: in slow start
 * by as much, afterwards by a chunk for each window (RFC 9260, 7.2.1 and 7.2.2).
 */
export function watchWindow(inside: object): void {
  const association = inside as Association, chunk = association.maxPayloadSize;
  let window = association.cwnd, widest = Infinity;
  Object.defineProperty(association, "cwnd", {
    get: () => window,
    set(asked: number) {
      if (asked >= window) return; // its own growth
      widest = window;
      // A chunk is left where nothing was heard for too long; half the window where single chunks are missing.
      window = asked <= chunk ? chunk : Math.max(LEFT * window, LEAST_CHUNKS * chunk);
      association.ssthresh = Math.max(LEFT * widest, LEAST_CHUNKS * chunk);
    },
  });
  const decrease = association.flightSizeDecrease.bind(association);
  association.flightSizeDecrease = (left) => {
    decrease(left);
    if (left.retransmit || association.outboundQueue.length === 0) return;
    const slow = window < (association.ssthresh ?? Infinity);
    const more = slow ? left.bookSize : chunk * left.bookSize / window * (window < widest ? SLOWER : 1);
    window = Math.min(window + more, MOST_CHUNKS * chunk);
  };
}
