/**
 * Fewer acknowledgements for werift's SCTP: it answers every single packet with one of its own, which costs both ends as much
 * as half a packet of data does. Here several packets share one, as RFC 9260 (6.2) has it for two.
 *
 * @module
 */
import { limits } from "../limits.ts";
import type { Clock, Timer } from "../runtime.ts";

/** What is reached inside werift's association; its types call some of it private. */
export interface Acknowledging {
  /** Called for each packet, once something is to be acknowledged. */
  scheduleSack(): Promise<void>;
  sendSack(): Promise<void>;
  sackNeeded: boolean;
  /** The packet that was read last had data that had not come before. */
  readonly sackHasNewDataInPacket: boolean;
  /** Packets behind one that is missing, and packets that came twice. */
  readonly sackMisOrdered: { readonly size: number };
  readonly sackDuplicates: { readonly length: number };
}

/** Packets to an acknowledgement at first and behind a loss, and how many follow each other until there are more. */
const FEW = 2, IN_ORDER = 256;
/** Packets to an acknowledgement then. A burst of ours is three times as much, so that a sender does not stand still. */
const MANY = 8;

/**
 * From now on packets share acknowledgements. Every second packet gets one at first and behind a loss: other peers than
 * werift widen their window by a packet for each acknowledgement then, but by bytes later. What tells of a loss goes at once.
 * The answer ends it.
 */
export function gatherSacks(association: Acknowledging, clock: Clock): () => void {
  let waiting = 0, inOrder = 0, missing = false, timer: Timer | undefined;
  const answer = (): Promise<void> => {
    timer?.cancel();
    timer = undefined;
    waiting = 0;
    // An answer that was still being sent while a packet came would have taken that one for answered, too.
    association.sackNeeded = true;
    return association.sendSack();
  };
  association.scheduleSack = async () => {
    if (association.sackHasNewDataInPacket) waiting++, inOrder++;
    const before = missing;
    missing = association.sackMisOrdered.size > 0 || association.sackDuplicates.length > 0;
    if (missing) inOrder = 0;
    // The packet that fills a gap is told at once as well.
    if (missing || before || waiting >= (inOrder > IN_ORDER ? MANY : FEW)) return await answer();
    timer ??= clock.timer(limits.gatheredMs, () => void answer().catch(() => {}));
  };
  return () => timer?.cancel();
}
