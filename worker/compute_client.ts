/**
 * A device on a thread of its own, seen from the main thread: {@linkcode Compute} over messages.
 *
 * @module
 */
import type { Slice } from "../mesh/plan.ts";
import type { Compute, Exchanger } from "./compute.ts";
import {
  type FromThread,
  fromWire,
  type Method,
  type ThreadOptions,
  type ToThread,
  transfers,
  wireError,
} from "./thread_protocol.ts";

/** The thread ended or threw outside of a call; whatever it held is gone. */
export class ComputeThreadError extends Error {
  override readonly name = "ComputeThreadError";
}

/** The part of a `Worker` that is used; tests hand in their own. */
export interface Thread {
  postMessage(message: ToThread, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
  terminate(): void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Where the thread's program lies. Builds for browsers that move it hand in another address. */
export function threadAddress(): URL {
  return new URL("./compute_thread.ts", import.meta.url);
}

/** Starts the thread's program. Needs no permission in Deno for a program that was loaded with the main one. */
export function startThread(address: URL = threadAddress()): Thread {
  return new Worker(address, { type: "module", name: "volary-compute" }) as unknown as Thread;
}

/**
 * Opens a device on `thread`; `keep` is told what its tuning found out and how fast it was, `loading` which slice it is about
 * to load. Rejects with the device's own error, by name (`NoAdapterError`, ...), and
 * {@linkcode ComputeThreadError} where the thread cannot start.
 */
export function openComputeThread(
  options: ThreadOptions,
  exchanger: Exchanger,
  thread: Thread = startThread(),
  keep: (what: "tuned" | "measured", known: string) => void = () => {},
  loading: (slice: Slice) => void = () => {},
): Promise<Compute> {
  const client = new ComputeClient(thread, exchanger, keep, loading);
  return client.open(options).then(() => client);
}

class ComputeClient implements Compute {
  #next = 0;
  #waiting = new Map<number, Waiting>();
  #opening: Waiting | undefined;
  #ended: Error | undefined;

  constructor(
    private readonly thread: Thread,
    private readonly exchanger: Exchanger,
    private readonly keep: (what: "tuned" | "measured", known: string) => void,
    private readonly loading: (slice: Slice) => void,
  ) {
    thread.onmessage = (event) => this.#receive(event.data as FromThread);
    thread.onerror = (event) => {
      event.preventDefault();
      this.#end(new ComputeThreadError(`The compute thread stopped: ${event.message}`));
    };
    thread.onmessageerror = () =>
      this.#end(new ComputeThreadError("The compute thread sent a message that could not be read"));
  }

  open(options: ThreadOptions): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#opening = { resolve: () => resolve(), reject };
      this.thread.postMessage({ type: "open", options }, []);
    }).catch((error) => {
      this.thread.terminate();
      throw error;
    });
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#opening?.reject(error);
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    this.thread.terminate();
  }

  #receive(message: FromThread): void {
    switch (message.type) {
      case "opened":
        this.#opening?.resolve(undefined);
        this.#opening = undefined;
        return;
      case "refused":
        this.#end(fromWire(message.error));
        return;
      case "result":
        this.#waiting.get(message.id)?.resolve(message.value);
        this.#waiting.delete(message.id);
        return;
      case "failed":
        this.#waiting.get(message.id)?.reject(fromWire(message.error));
        this.#waiting.delete(message.id);
        return;
      case "tuned":
      case "measured":
        this.keep(message.type, message.known);
        return;
      case "exchange": {
        const id = message.id;
        // The exchanger may throw at once; inside the chain that becomes a rejection like any other.
        Promise.resolve().then(() => this.exchanger(message.exchange)).then(
          (rows) => this.#post({ type: "exchanged", id, rows }),
          (error) => this.#post({ type: "exchange-failed", id, error: wireError(error) }),
        );
      }
    }
  }

  #post(message: ToThread): void {
    if (this.#ended === undefined) this.thread.postMessage(message, transfers(message));
  }

  #call<M extends Method>(method: M, ...args: Parameters<Compute[M]>): ReturnType<Compute[M]> {
    const result = new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#post({ type: "call", id, method, args });
    });
    return result as ReturnType<Compute[M]>;
  }

  profile: Compute["profile"] = () => this.#call("profile");
  load: Compute["load"] = (slice) => {
    this.loading(slice);
    return this.#call("load", slice);
  };
  put: Compute["put"] = (...args) => this.#call("put", ...args);
  get: Compute["get"] = (...args) => this.#call("get", ...args);
  forward: Compute["forward"] = (input) => this.#call("forward", input);
  backward: Compute["backward"] = (...args) => this.#call("backward", ...args);
  backwardInput: Compute["backwardInput"] = (...args) => this.#call("backwardInput", ...args);
  backwardWeight: Compute["backwardWeight"] = (...args) => this.#call("backwardWeight", ...args);
  host: Compute["host"] = (exchange) => this.#call("host", exchange);
  hostWeights: Compute["hostWeights"] = (...args) => this.#call("hostWeights", ...args);
  takeTiedGradient: Compute["takeTiedGradient"] = () => this.#call("takeTiedGradient");
  addTiedGradient: Compute["addTiedGradient"] = (words) => this.#call("addTiedGradient", words);
  fold: Compute["fold"] = () => this.#call("fold");
  read: Compute["read"] = (...args) => this.#call("read", ...args);
  expect: Compute["expect"] = (tensors) => this.#call("expect", tensors);
  write: Compute["write"] = (...args) => this.#call("write", ...args);
  addGradients: Compute["addGradients"] = (...args) => this.#call("addGradients", ...args);
  beginLocal: Compute["beginLocal"] = () => this.#call("beginLocal");
  deltas: Compute["deltas"] = (...args) => this.#call("deltas", ...args);
  outerStep: Compute["outerStep"] = (...args) => this.#call("outerStep", ...args);
  adopt: Compute["adopt"] = (...args) => this.#call("adopt", ...args);
  finish: Compute["finish"] = () => this.#call("finish");
  balance: Compute["balance"] = (loads) => this.#call("balance", loads);
  step: Compute["step"] = (decision) => this.#call("step", decision);
  busy: Compute["busy"] = () => this.#call("busy");

  close(): void {
    if (this.#ended !== undefined) return;
    this.#post({ type: "close" });
    this.#ended = new ComputeThreadError("The compute thread was closed");
    for (const waiting of this.#waiting.values()) waiting.reject(this.#ended);
    this.#waiting.clear();
    // The thread frees its device and ends itself; nothing more is expected from it.
    this.thread.onmessage = null;
  }
}
