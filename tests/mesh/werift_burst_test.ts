import { assertEquals } from "@std/assert";
import { limits } from "../../mesh/limits.ts";
import { type Bursting, sendBursts } from "../../mesh/transports/werift_burst.ts";

const PACKET = 1_170;

/** Sends four packets a round as werift does, and loses sight of them: nothing is ever acknowledged. */
class Association implements Bursting {
  readonly flush = { subscribe: (execute: () => void) => void (this.#told = execute) };
  outboundQueue: number[] = [];
  flightSize = 0;
  fastRecoveryExit?: number;
  #told = () => {};
  #transmitting = false;
  #again = false;

  constructor(readonly cwnd: number, private readonly room = Infinity) {}

  transmit(): Promise<void> {
    if (this.#transmitting) {
      this.#again = true;
      return Promise.resolve();
    }
    this.#transmitting = true;
    do {
      this.#again = false;
      const most = Math.min(this.flightSize + 4 * PACKET, this.cwnd);
      while (this.outboundQueue.length > 0 && this.flightSize < most && this.flightSize < this.room) {
        this.flightSize += this.outboundQueue.shift()!;
      }
      this.#told();
    } while (this.#again);
    this.#transmitting = false;
    return Promise.resolve();
  }
}

function left(association: Association, packets: number): number {
  sendBursts(association);
  association.outboundQueue = new Array(packets).fill(PACKET);
  void association.transmit();
  return packets - association.outboundQueue.length;
}

Deno.test("a message behind a pause leaves at once, as far as the congestion window goes", () => {
  assertEquals(left(new Association(100 * PACKET), 15), 15);
  assertEquals(left(new Association(9 * PACKET), 15), 9);
  assertEquals(left(new Association(3 * PACKET), 15), 3);
});

Deno.test("a burst has an end, also where the other end has no room or something is being sent again", () => {
  assertEquals(left(new Association(1_000 * PACKET), 500), 4 * Math.ceil(limits.burstBytes / (4 * PACKET)));
  assertEquals(left(new Association(100 * PACKET, 6 * PACKET), 15), 6);
  const recovering = new Association(100 * PACKET);
  recovering.fastRecoveryExit = 1;
  assertEquals(left(recovering, 15), 4);
});

Deno.test("as much leaves as one acknowledgement of many packets has made room for", () => {
  const association = new Association(60 * PACKET);
  left(association, 500);
  // Word comes packet by packet until the window is full.
  for (let i = 0; i < 100; i++) {
    association.flightSize -= PACKET;
    void association.transmit();
  }
  assertEquals(association.flightSize, 60 * PACKET);
  association.flightSize -= 8 * PACKET;
  void association.transmit();
  assertEquals(association.flightSize, 60 * PACKET);
  // Once nothing waits, the level falls with what is under way.
  association.outboundQueue = [];
  association.flightSize = 0;
  void association.transmit();
  association.outboundQueue = new Array(500).fill(PACKET);
  void association.transmit();
  assertEquals(association.flightSize, 4 * Math.ceil(limits.burstBytes / (4 * PACKET)) * PACKET);
});
