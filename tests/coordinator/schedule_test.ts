import { assert, assertEquals } from "@std/assert";
import { schedule } from "../../coordinator/schedule/schedule.ts";
import type { Operation, Stage } from "../../mesh/plan.ts";

const stagesOf = (count: number): Stage[] =>
  Array.from({ length: count }, (_, s) => ({
    worker: `w${s}`,
    from: s,
    to: s + 1,
    embedding: s === 0,
    head: s === count - 1,
    experts: [[]],
  }));

/** Runs all lists at once, an operation when its turn has come and what it receives was sent. */
function execute(lists: ReturnType<typeof schedule>, kind: "train" | "evaluate") {
  const queues = Object.entries(lists).map(([worker, list]) => ({ worker, list: [...list[kind]] }));
  const sent = new Set<string>(), order: string[] = [];
  const key = (op: Operation & { do: "send" | "receive" }, from: number, to: number) =>
    `${op.what} ${from}>${to} ${"microbatch" in op ? op.microbatch : ""}`;
  for (let moved = true; moved;) {
    moved = false;
    for (const { worker, list } of queues) {
      const op = list[0];
      if (op === undefined) continue;
      if (op.do === "receive" && !sent.delete(key(op, op.peer, op.stage))) continue;
      if (op.do === "send") sent.add(key(op, op.stage, op.peer));
      if (op.do === "forward" || op.do === "backward") order.push(`${worker} ${op.do} ${op.microbatch}`);
      list.shift();
      moved = true;
    }
  }
  return { left: queues.flatMap((q) => q.list).length, unread: [...sent], order };
}

for (const [stages, microbatches] of [[1, 1], [1, 4], [2, 1], [2, 2], [3, 2], [4, 8], [5, 3]]) {
  Deno.test(`${stages} stages, ${microbatches} microbatches: every list runs to its end, nothing is left over`, () => {
    const lists = schedule({ stages: stagesOf(stages), microbatches, tied: true, hosts: ["h"] });
    for (const kind of ["train", "evaluate"] as const) {
      const { left, unread, order } = execute(lists, kind);
      assertEquals([left, unread], [0, []]);
      assertEquals(order.length, stages * microbatches * (kind === "train" ? 2 : 1));
      for (let s = 0; s < stages; s++) {
        const backward = order.filter((line) => line.startsWith(`w${s} backward`));
        assertEquals(backward, kind === "train" ? backward.map((_, m) => `w${s} backward ${m}`) : []);
      }
    }
    assertEquals(lists.h, { train: [{ do: "vote" }], evaluate: [] });
  });
}

Deno.test("a stage holds no more microbatches than there are stages from it on", () => {
  const lists = schedule({ stages: stagesOf(4), microbatches: 8, tied: false, hosts: [] });
  for (let s = 0; s < 4; s++) {
    let held = 0, most = 0;
    for (const op of lists[`w${s}`].train) {
      if (op.do === "forward") most = Math.max(most, ++held);
      if (op.do === "backward") held--;
    }
    assertEquals(most, 4 - s);
  }
});

Deno.test("a tied embedding travels only where its two ends lie apart", () => {
  const whats = (lists: ReturnType<typeof schedule>, worker: string) =>
    lists[worker].train.flatMap((op) =>
      "what" in op && op.what.startsWith("tied") ? [`${op.do} ${op.what}`] : []
    );
  const apart = schedule({ stages: stagesOf(3), microbatches: 2, tied: true, hosts: [] });
  assertEquals(whats(apart, "w0"), ["receive tied-gradient", "send tied-weight"]);
  assertEquals(whats(apart, "w1"), []);
  assertEquals(whats(apart, "w2"), ["send tied-gradient", "receive tied-weight"]);
  const together = schedule({ stages: stagesOf(1), microbatches: 2, tied: true, hosts: [] });
  assertEquals(whats(together, "w0"), []);
  assert(together.w0.train.some((op) => op.do === "vote"));
});
