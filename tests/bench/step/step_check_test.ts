/** The regression gate of `bench step`. */
import { assert, assertEquals } from "@std/assert";
import { checkStep, type StepFigures } from "../../../bench/step/step_check.ts";

function figures(ratio: number, kernels: Record<string, number>): StepFigures {
  return { peer: "a peer", adapter: "an adapter", precisions: { f32: { ratio, kernels } } };
}

const committed = figures(0.5, { matmulNT: 1, adamw: 0.4, rope: 0.1 });

Deno.test("A step that is as fast as the committed one, or a little slower, passes", () => {
  for (const ratio of [0.7, 0.5, 0.45]) {
    const { passed, lines } = checkStep(committed, figures(ratio, { matmulNT: 5 }));
    assert(passed);
    assertEquals(lines.length, 1);
  }
});

Deno.test("A slower step fails and names the kernels that grew, worst first", () => {
  const { passed, lines } = checkStep(
    committed,
    figures(0.4, { matmulNT: 1.1, adamw: 0.7, rope: 0.1, sort: 0.25 }),
  );
  assert(!passed);
  assertEquals(lines[0].includes("f32: 0.400 of a peer, committed 0.500 (-20.0 %)"), true, lines[0]);
  assertEquals(lines.slice(1).map((line) => line.trim().split(":")[0]), ["adamw", "sort", "matmulNT"]);
  assert(lines[1].includes("1.75 x as long"), lines[1]);
  assert(lines[2].includes("new"), lines[2]);
});

Deno.test("A slower step whose kernels did not grow says so", () => {
  const { passed, lines } = checkStep(committed, figures(0.4, committed.precisions.f32.kernels));
  assert(!passed);
  assert(lines[1].includes("no kernel"), lines[1]);
});

Deno.test("Figures beside another peer or of another adapter are not compared, and a missing precision fails", () => {
  for (const other of [{ peer: "another" }, { adapter: "another" }]) {
    const { passed, lines } = checkStep(committed, { ...committed, ...other });
    assert(!passed);
    assert(lines[0].includes("another"), lines[0]);
  }
  const { passed, lines } = checkStep(committed, { ...committed, precisions: {} });
  assert(!passed);
  assert(lines[0].startsWith("f32"), lines[0]);
});
