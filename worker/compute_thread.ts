/**
 * The thread that owns the device. It answers calls in the order in which they arrive; a call that waits for another
 * worker's experts lets later ones pass. Started by compute_client.ts.
 *
 * @module
 */
import { openDevice } from "../kernels/mod.ts";
import { free } from "./buffers.ts";
import type { Compute, Exchanger } from "./compute.ts";
import { KnownSpeeds } from "./known_speeds.ts";
import { LocalCompute } from "./local_compute.ts";
import {
  type FromThread,
  fromWire,
  type ThreadOptions,
  type ToThread,
  transfers,
  wireError,
} from "./thread_protocol.ts";

/** The part of a dedicated worker's global scope that is used here; browsers and Deno agree on it. */
interface Scope {
  postMessage(message: FromThread, transfer?: ArrayBuffer[]): void;
  onmessage: ((event: MessageEvent<ToThread>) => void) | null;
  close(): void;
}
const scope = globalThis as unknown as Scope;

let compute: Compute | undefined;
let nextExchange = 0;
const exchanges = new Map<number, { resolve(rows: ArrayBuffer[]): void; reject(error: Error): void }>();

const exchanger: Exchanger = (exchange) => {
  const id = nextExchange++;
  return new Promise((resolve, reject) => {
    exchanges.set(id, { resolve, reject });
    scope.postMessage({ type: "exchange", id, exchange }, transfers(exchange));
  });
};

async function open({ device: kind, memory, share, tuning, speeds }: ThreadOptions): Promise<Compute> {
  const changed = (known: string) => scope.postMessage({ type: "tuned", known });
  const device = await openDevice({ kind, memory, tuning: tuning && { ...tuning, changed } });
  return new LocalCompute({
    device,
    exchanger,
    now: () => performance.now(),
    speeds: speeds &&
      new KnownSpeeds(
        speeds,
        globalThis.navigator?.userAgent ?? "",
        (known) => scope.postMessage({ type: "measured", known }),
      ),
    ...(share === undefined ? {} : {
      duty: { share, rest: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)) },
    }),
    // WebGPU does not say how much memory an adapter has; what it allocates in one piece is there at least.
    memory: memory ?? device.info.maxAllocation,
  });
}

async function answer(message: ToThread): Promise<void> {
  switch (message.type) {
    case "open":
      try {
        compute = await open(message.options);
        scope.postMessage({ type: "opened" });
      } catch (error) {
        scope.postMessage({ type: "refused", error: wireError(error) });
      }
      return;
    case "call":
      try {
        if (compute === undefined) throw new Error("The compute thread was called before it was opened");
        const method = compute[message.method] as (...args: readonly unknown[]) => Promise<unknown>;
        const value = await method.apply(compute, message.args as unknown[]);
        scope.postMessage({ type: "result", id: message.id, value }, transfers(value));
        for (const buffer of transfers(message.args)) free(buffer); // the device has its own copy
      } catch (error) {
        scope.postMessage({ type: "failed", id: message.id, error: wireError(error) });
      }
      return;
    case "exchanged":
      exchanges.get(message.id)?.resolve(message.rows);
      exchanges.delete(message.id);
      return;
    case "exchange-failed":
      exchanges.get(message.id)?.reject(fromWire(message.error));
      exchanges.delete(message.id);
      return;
    case "close":
      compute?.close();
      scope.close();
  }
}

scope.onmessage = (event) => void answer(event.data);
