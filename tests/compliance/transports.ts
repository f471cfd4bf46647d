/**
 * The transports that every link test runs on.
 *
 * @module
 */
import { signalPair } from "../../mesh/transports/signal_pair.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { memoryChannelPair, MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { nativeTransport } from "../../mesh/transports/native_transport.ts";
import type { Channel, Clock, Transport } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";

/** Two ends of one channel and the time that they live in. */
export interface Pair {
  readonly a: Channel;
  readonly b: Channel;
  readonly clock: Clock;
  /** Waits for a promise while time passes. */
  run<T>(promise: Promise<T>): Promise<T>;
  /** Ends the channel at once, as if the process of `a` had died. */
  sever(): void;
}

export interface TransportCase {
  readonly name: string;
  /** Largest frame that its tests send both ways at once; one of 64 MiB goes one way on each. */
  readonly largest: number;
  readonly small: number;
  pair(): Promise<Pair>;
  /** The transports of both ends, where they live in real time. */
  ends?(): [Transport, Transport];
}

type Maker = (options: { clock: Clock; loopback: boolean }) => Transport;

export const transports: readonly TransportCase[] = [
  {
    name: "memory",
    largest: 16 << 20,
    small: 10_000,
    ends() {
      const hub = new MemoryHub(denoRuntime());
      return [hub.transport(), hub.transport()];
    },
    async pair() {
      const clock = denoRuntime(), hub = new MemoryHub(clock), [sa, sb] = signalPair();
      const [a, b] = await Promise.all([hub.transport().open(sa, true), hub.transport().open(sb, false)]);
      return {
        a,
        b,
        clock,
        run: (promise) => promise,
        sever: () => (a as unknown as { sever(): void }).sever(),
      };
    },
  },
  {
    name: "memory, 20 ms and 100 MB/s on a virtual clock",
    largest: 16 << 20,
    small: 10_000,
    pair() {
      const clock = new VirtualClock(1);
      const [a, b] = memoryChannelPair({ clock, latencyMs: 20, bytesPerSecond: 100e6, maxMessage: 1 << 16 });
      return Promise.resolve({ a, b, clock, run: (promise) => clock.until(promise), sever: () => a.sever() });
    },
  },
  overUdp("werift", weriftTransport, weriftTransport),
  overUdp("native", nativeTransport, nativeTransport),
  overUdp("werift to native", weriftTransport, nativeTransport),
];

/** Two ends in this process over the loopback interface. */
function overUdp(name: string, ...kinds: [Maker, Maker]): TransportCase {
  return {
    name,
    largest: 4 << 20,
    small: 10_000,
    ends() {
      const clock = denoRuntime(), [a, b] = kinds.map((make) => make({ clock, loopback: true }));
      return [a, b];
    },
    async pair() {
      const clock = denoRuntime(), [sa, sb] = signalPair();
      const [first, second] = kinds.map((make) => make({ clock, loopback: true }));
      const [a, b] = await Promise.all([first.open(sa, true), second.open(sb, false)]);
      return { a, b, clock, run: (promise) => promise, sever: () => a.close("killed") };
    },
  };
}
