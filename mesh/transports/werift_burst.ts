/**
 * Larger bursts for werift's SCTP: behind a pause it sends four packets and then waits for word from the other end, so that a
 * message of 16 KiB needs three ways instead of one although its congestion window has long had room for all of it.
 *
 * @module
 */
import { limits } from "../limits.ts";

/** What is reached inside werift's association; its types call some of it private. */
export interface Bursting {
  /** Fires at the end of each round of packets. */
  readonly flush: { subscribe(execute: () => void): unknown };
  /** Packets that have not left. */
  readonly outboundQueue: readonly unknown[];
  /** Bytes under way, and how many there may be. */
  readonly flightSize: number;
  readonly cwnd: number;
  /** Something was lost and is being sent again. */
  readonly fastRecoveryExit?: number;
  /** Sends a round of packets, or another behind the one that is under way. */
  transmit(): Promise<void>;
}

/**
 * From now on as much leaves at once as the congestion window and {@linkcode limits.burstBytes} permit; and where more than that
 * is under way, as much as one acknowledgement, which may be for several packets, has made room for.
 */
export function sendBursts(association: Bursting): void {
  let before = 0, level = 0;
  association.flush.subscribe(() => {
    const { outboundQueue: { length }, flightSize, cwnd, fastRecoveryExit } = association;
    // Nothing left in this round: the other end has no room.
    const stuck = length === before;
    before = length;
    const done = length === 0 || stuck || fastRecoveryExit !== undefined;
    if (!done && flightSize < Math.min(cwnd, Math.max(limits.burstBytes, level))) {
      void association.transmit();
    } else level = flightSize;
  });
}
