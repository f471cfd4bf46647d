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

/** From now on as much leaves at once as the congestion window and {@linkcode limits.burstBytes} permit. */
export function sendBursts(association: Bursting): void {
  let before = 0;
  association.flush.subscribe(() => {
    const { outboundQueue: { length }, flightSize, cwnd, fastRecoveryExit } = association;
    // Nothing left in this round: the other end has no room.
    const stuck = length === before;
    before = length;
    if (length === 0 || stuck || fastRecoveryExit !== undefined) return;
    if (flightSize < Math.min(cwnd, limits.burstBytes)) void association.transmit();
  });
}
