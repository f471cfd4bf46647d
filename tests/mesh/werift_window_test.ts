/** The window of a werift association: what it grows by, what a loss leaves of it, and where it ends. */
import { assert, assertEquals } from "@std/assert";
import { MOST_CHUNKS, watchWindow } from "../../mesh/transports/werift_window.ts";

const CHUNK = 1_000;

function association() {
  const inside = {
    cwnd: 3 * CHUNK,
    ssthresh: 1 << 20,
    flightSize: 0,
    maxPayloadSize: CHUNK,
    outboundQueue: [{}],
    flightSizeDecrease({ bookSize }: { bookSize: number; retransmit?: boolean }) {
      inside.flightSize -= bookSize;
    },
  };
  watchWindow(inside);
  return inside;
}
type Inside = ReturnType<typeof association>;

/** A round trip in which everything arrives that the window holds. */
function roundTrip(inside: Inside): void {
  const chunks = Math.floor(inside.cwnd / CHUNK);
  inside.flightSize = chunks * CHUNK;
  for (let i = 0; i < chunks; i++) inside.flightSizeDecrease({ bookSize: CHUNK });
  assertEquals(inside.flightSize, 0, "werift's own count goes on");
}

/** Round trips until the window is so wide. */
function until(inside: Inside, chunks: number): number {
  for (let i = 1;; i++) {
    assert(i < 1_000);
    roundTrip(inside);
    if (inside.cwnd >= chunks * CHUNK) return i;
  }
}

Deno.test("slow start doubles the window each round trip, up to what the other end's socket holds", () => {
  const inside = association();
  assertEquals(until(inside, 12), 2);
  until(inside, MOST_CHUNKS);
  for (let i = 0; i < 10; i++) roundTrip(inside);
  assertEquals(inside.cwnd, MOST_CHUNKS * CHUNK);
});

Deno.test("a loss leaves seven tenths, which have grown back within sixty round trips", () => {
  const inside = association();
  until(inside, MOST_CHUNKS);
  inside.cwnd = inside.cwnd / 2; // what werift says when chunks are missing
  assertEquals(Math.round(inside.cwnd / CHUNK), Math.round(0.7 * MOST_CHUNKS));
  const trips = until(inside, MOST_CHUNKS - 1);
  assert(trips > 30 && trips < 60, `${trips} round trips`);
});

Deno.test("after silence one chunk is left; werift's own growth and what waits for nothing count nothing", () => {
  const inside = association();
  until(inside, 50);
  inside.cwnd = CHUNK;
  assertEquals(inside.cwnd, CHUNK);
  inside.cwnd = 10 * CHUNK;
  inside.flightSizeDecrease({ bookSize: CHUNK, retransmit: true }); // counted as lost
  inside.outboundQueue.length = 0;
  inside.flightSizeDecrease({ bookSize: CHUNK }); // nothing waits for room
  assertEquals(inside.cwnd, CHUNK);
});
