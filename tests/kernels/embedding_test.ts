import { assertEquals } from "@std/assert";
import { embedding, embeddingBackward, groupTokens } from "../../kernels/mod.ts";
import { compareVariants, noise, reference, runKernel } from "./devices.ts";

const EXACT = { absolute: 0, relative: 0 };
const VOCAB = 61;

function ids(rows: number, seed: number): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(noise(rows, seed), (value) => Math.floor((value + 1) / 2 * VOCAB));
}

Deno.test("embedding and its backward equal their references bit for bit", async () => {
  for (const [rows, width] of [[1, 1], [3, 7], [29, 12], [300, 36], [5, 260], [1024, 128]]) {
    const tokens = ids(rows, rows);
    const arrays = { ids: tokens, table: noise(VOCAB * width, 1), y: new Float32Array(rows * width) };
    await compareVariants(embedding, arrays, { rows, width }, EXACT);
    const groups = groupTokens(tokens);
    const backward = { ...groups, dy: noise(rows * width, 2), dtable: noise(VOCAB * width, 3) };
    await compareVariants(embeddingBackward, backward, { unique: groups.tokens.length, width }, EXACT);
  }
});

Deno.test("embeddingBackward adds every row of dy to its table row and touches no other", async () => {
  const tokens = Uint32Array.of(4, 2, 4, 0, 4);
  const groups = groupTokens(tokens);
  const dy = Float32Array.of(1, 2, 4, 8, 16);
  const dtable = new Float32Array(6).fill(100);
  const written = await runKernel(reference, embeddingBackward, { ...groups, dy, dtable }, {
    unique: 3,
    width: 1,
  });
  assertEquals([...written.dtable], [108, 100, 102, 100, 121, 100]);
});

Deno.test("groupTokens lists each id once and its rows in order", () => {
  const { tokens, starts, order } = groupTokens(Uint32Array.of(7, 3, 7, 4_000_000_000, 3, 7));
  assertEquals([...tokens], [3, 7, 4_000_000_000]);
  assertEquals([...starts], [0, 2, 5, 6]);
  assertEquals([...order], [1, 4, 0, 2, 5, 3]);
  const none = groupTokens(new Uint32Array(0));
  assertEquals([none.tokens.length, [...none.starts], none.order.length], [0, [0], 0]);
});
