/**
 * What went wrong on a device: the driver answers late, and whatever comes after the first failure means nothing.
 *
 * @module
 */
import type { DeviceLostError } from "../errors.ts";

/** The first failure, the checks of the driver that are not answered yet, and whether the device was closed. */
export class Health {
  readonly #checks = new Set<Promise<void>>();
  #failure: Error | undefined;
  #closed: DeviceLostError | undefined;

  /** Throws what went wrong first, or that the device was closed. */
  check(): void {
    const reason = this.reason;
    if (reason !== undefined) throw reason;
  }

  /** Why nothing works any more. */
  get reason(): Error | undefined {
    return this.#failure ?? this.#closed;
  }

  /** Remembers the first thing that went wrong; results after it would mean nothing, so every later call throws it. */
  fail(error: Error): void {
    if (this.#closed === undefined) this.#failure ??= error;
  }

  /** In good order; what the driver says from now on is of no interest. */
  close(reason: DeviceLostError): void {
    this.#closed = reason;
  }

  get closed(): boolean {
    return this.#closed !== undefined;
  }

  /** Keeps a check of the driver until it is answered, and its answer if it is an error. */
  watch(check: Promise<Error | undefined>): void {
    const watched: Promise<void> = check.then(
      (error) => {
        if (error !== undefined) this.fail(error);
      },
      // A scope cannot be popped from a lost device; `lost` tells about that.
      () => {},
    ).finally(() => this.#checks.delete(watched));
    this.#checks.add(watched);
  }

  /** Resolves when the checks that were asked for so far are answered. */
  async answered(): Promise<void> {
    await Promise.all([...this.#checks]);
  }

  /** Waits for the driver's word on everything submitted, and throws if it refused something. */
  async settle(): Promise<void> {
    while (this.#checks.size > 0) await Promise.all(this.#checks);
    // What was read before an orderly close is good.
    if (this.#failure !== undefined) throw this.#failure;
  }
}
