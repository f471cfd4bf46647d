/** Frames whose content tells whether they came whole, once and in order. */
import { type Lane, LANES, type Link, type LinkOptions } from "../../mesh/link/link.ts";
import { header as plain } from "./linked.ts";

/** A frame that is told from others by more than its number. */
export const header = (sequence: number, generation?: number) =>
  plain(sequence, { round: 3, index: 1, microbatch: 2, ...(generation === undefined ? {} : { generation }) });

/** Bytes that depend on `seed` at every place. */
export function pattern(seed: number, length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array((length + 3) >> 2);
  let x = Math.imul(seed + 1, 0x9e3779b1) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer).slice(0, length);
}

/** Whether two arrays hold the same bytes; quicker than assertEquals on megabytes. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Resolves once `count` frames came, each the next of its lane with the pattern of its number; consumes them. */
export function expectFrames(link: Link, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const next = new Map<Lane, number>(LANES.map((lane) => [lane, 0]));
    let got = 0;
    link.onframe = (lane, head, payload, consumed) => {
      const sequence = next.get(lane)!;
      next.set(lane, sequence + 1);
      const ok = head.sequence === sequence && head.what === "activation" && head.round === 3 &&
        payload.byteLength === payload.buffer.byteLength && same(payload, pattern(sequence, payload.length));
      if (!ok) {
        return reject(new Error(`frame ${head.sequence} of ${lane} is not what frame ${sequence} should be`));
      }
      consumed();
      if (++got === count) resolve();
      if (got > count) reject(new Error("more frames than were sent"));
    };
    link.closed.then(({ reason }) => reject(new Error(`closed after ${got} of ${count}: ${reason}`)));
  });
}

/** What links are opened for: the largest frame of each lane. */
export const sizes = (pipeline: number, request = pipeline, reply = pipeline): LinkOptions["lanes"] => ({
  pipeline,
  request,
  reply,
});
