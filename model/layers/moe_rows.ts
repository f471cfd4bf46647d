/**
 * The rows of a mixture-of-experts layer on their way to experts on other workers and back.
 *
 * @module
 */
import { part, type View } from "../../kernels/mod.ts";
import type { RowExchanger, Slots } from "./expert_exchange.ts";
import type { Pass } from "./pass.ts";

/** Whose rows go where. */
export interface Asking {
  readonly layer: number;
  readonly slots: Slots;
  readonly exchange: RowExchanger;
}

/** Sends each host its rows of normed [T, D] and writes what comes back behind the own rows of `out`. */
export async function askForward(
  pass: Pass,
  block: Asking,
  offsets: Uint32Array<ArrayBuffer>,
  normed: Float32Array<ArrayBuffer>,
  source: Uint32Array<ArrayBuffer>,
  out: View,
): Promise<void> {
  const { hiddenSize: D, expertsPerToken: chosen } = pass.config;
  const answered = ask(pass, block, "forward", offsets, out, (first, end) => {
    const rows = new Float32Array((end - first) * D);
    for (let row = first; row < end; row++) {
      const token = Math.floor(source[row] / chosen);
      rows.set(normed.subarray(token * D, (token + 1) * D), (row - first) * D);
    }
    return rows;
  });
  free(normed); // the rows are made by now
  await answered;
}

/** Gives the memory of words back at once: garbage collectors see little of it and would let it pile up. */
export function free(words: Float32Array<ArrayBuffer>): void {
  words.buffer.transfer(0);
}

/** Exchanges rows with every host that has some; `rowsOf` makes rows first..end of the rows sorted by slot. */
export async function ask(
  { device, config, microbatch, mode }: Pass,
  { layer, slots, exchange }: Asking,
  pass: "forward" | "backward",
  offsets: Uint32Array<ArrayBuffer>,
  into: View,
  rowsOf: (first: number, end: number) => Float32Array<ArrayBuffer>,
): Promise<void> {
  const D = config.hiddenSize;
  const asked = slots.remote.flatMap(({ host, first, count }) => {
    const start = offsets[first], end = offsets[first + count];
    if (start === end) return [];
    const counts = Uint32Array.from({ length: count }, (_, i) => offsets[first + i + 1] - offsets[first + i]);
    return [{ start, end, part: { host, counts, rows: rowsOf(start, end).buffer } }];
  });
  if (asked.length === 0) return;
  const answers = await exchange({ layer, microbatch, pass, mode, parts: asked.map(({ part }) => part) });
  asked.forEach(({ start, end, part: { host } }, i) => {
    const words = (end - start) * D;
    if (answers[i]?.byteLength !== words * 4) {
      throw new Error(
        `Worker ${host} answered ${answers[i]?.byteLength ?? 0} bytes for layer ${layer}, expected ${
          words * 4
        }`,
      );
    }
    const answer = new Float32Array(answers[i]);
    device.write(part(into, start * D, words), answer);
    free(answer);
  });
}
