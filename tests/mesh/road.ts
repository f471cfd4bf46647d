/** A link that tests cut, mend and fill. */
import { assertEquals } from "@std/assert";
import type { Link } from "../../mesh/link/link.ts";
import { type MemoryChannel, MemoryHub, type MemoryOptions } from "../../mesh/transports/memory_transport.ts";
import type { Clock, Transport } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { header, linked } from "../compliance/linked.ts";

const FRAME = 100_000;

/** Two workers' link over channels in memory on a virtual clock. */
export interface Road {
  readonly clock: VirtualClock;
  readonly hub: MemoryHub;
  readonly a: Link;
  readonly b: Link;
  /** Cuts (or mends) every channel that there is, both ways. */
  cut(): void;
  mend(): void;
}

/**
 * Opens a link. `options`: what lies between the two, and how many channels they have side by side; `wrap`: puts another
 * transport in the place of each end's.
 */
export async function road(
  options: Omit<MemoryOptions, "clock"> & Pick<Transport, "paths"> = {},
  seed = 1,
  wrap: (transport: Transport, clock: Clock) => Transport = (transport) => transport,
): Promise<Road> {
  const clock = new VirtualClock(seed),
    hub = new MemoryHub(clock, { latencyMs: 5, bytesPerSecond: 20e6, ...options });
  const transport = () => wrap(hub.transport(), clock),
    lanes = { pipeline: FRAME, request: FRAME, reply: FRAME };
  const [a, b] = await clock.until(linked([transport(), transport()], { clock, lanes, signalMs: 3 }));
  const both = (act: (channel: MemoryChannel) => void) => {
    for (const channel of hub.channels) for (const end of [channel, channel.other]) act(end);
  };
  return { clock, hub, a, b, cut: () => both((end) => end.cut()), mend: () => both((end) => end.mend()) };
}

/** Content that depends on the number and the direction. */
function content(sequence: number, salt: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(1 + sequence * 7_919 % FRAME).fill(sequence * 31 + salt & 255);
}

/** Sends `count` frames each way and resolves when all came; throws for one that is lost, doubled, damaged or early. */
export async function exchange({ a, b }: Road, count: number): Promise<void> {
  const both = [[a, b, 0], [b, a, 1]] as const;
  await Promise.all(both.map(([from, to, salt]) => {
    const done = Promise.withResolvers<void>();
    let next = 0;
    to.onframe = (_lane, { sequence }, payload, consumed) => {
      consumed();
      const wanted = content(next, salt);
      if (
        sequence !== next || payload.length !== wanted.length || payload.some((byte) => byte !== wanted[0])
      ) {
        done.reject(new Error(`frame ${sequence} came where ${next} was due`));
      }
      if (++next === count) done.resolve();
      if (next > count) done.reject(new Error("a frame came twice"));
    };
    to.closed.then(({ reason }) => done.reject(new Error(`closed after ${next} frames: ${reason}`)));
    for (let i = 0; i < count; i++) from.send("pipeline", header(i), [content(i, salt)]);
    return done.promise;
  }));
}

/** Closes a link in good order and lets everything that it left come to its end. */
export async function close({ clock, a, b }: Road): Promise<void> {
  a.close();
  assertEquals((await clock.until(a.closed)).orderly, true);
  assertEquals((await clock.until(b.closed)).orderly, true);
  await clock.idle(20_000);
}
