/** An evaluate phase puts tasks to a model that lies on several workers, and finds what one device finds. */
import { assert, assertAlmostEquals, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { reportData } from "../../coordinator/report/report_of_events.ts";
import { Report } from "../../coordinator/report/report.ts";
import { reportPage } from "../../coordinator/report/report_page.ts";
import { openDevice } from "../../kernels/mod.ts";
import { byteTokenizer } from "../../model/text/byte_tokenizer.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { scoreTasks } from "../../model/text/task_scores.ts";
import { readTasks } from "../../model/text/tasks.ts";
import { smallMesh, smallRecipe } from "./small_run.ts";

const animals = ["cat", "dog", "owl", "bee"];
const tasks = Array.from({ length: 11 }, (_, i) => ({
  kind: "choose",
  prompt: `line ${i}: the `,
  premise: "the ",
  candidates: [...animals.slice(0, 2 + i % 3), "the end."],
  answer: i % 2,
}));

/** Some steps of training on two stages and a host of experts, then tasks in rounds of 3 x 2 sequences. */
const recipe = smallRecipe({ steps: 4, checkpointEvery: 0, stages: 2, hosts: 1 }) + `
[[phase]]
kind = "evaluate"
batch = 6
microbatches = 3
sequence = 24
batches = 1
tasks = ["tasks.jsonl", "more.jsonl"]
`;

const lines = (all: readonly unknown[]) => all.map((task) => JSON.stringify(task)).join("\n");

Deno.test("tasks over a mesh are scored as on one device, told and reported", async () => {
  const mesh = await smallMesh("reference", 3);
  try {
    mesh.storage.text("/tasks.jsonl", lines(tasks));
    mesh.storage.text("/more.jsonl", lines(tasks.slice(0, 4)));
    const outcome = await mesh.run(recipe);
    assert(outcome.event === "done", JSON.stringify(outcome));
    const told = mesh.events.filter((event) => event.event === "tasks");
    assertEquals(told.map(({ phase, file }) => [phase, file]), [[1, "/tasks.jsonl"], [1, "/more.jsonl"]]);

    const device = await openDevice({ kind: "reference" });
    const model = await LoadedModel.load(device, await openCheckpoint(mesh.storage, outcome.path));
    const numbered = await readTasks(mesh.storage, "/tasks.jsonl");
    for (const [f, asked] of [numbered, numbered.slice(0, 4)].entries()) {
      const [alone] = await scoreTasks(model, byteTokenizer(), asked), { scores } = told[f];
      assert(alone.kind === "choose");
      assertEquals(scores.tasks, asked.length);
      for (const by of ["total", "tokens", "characters", "relative", "promptless"] as const) {
        assertEquals(scores[by].right, alone[by].right, by);
        assertAlmostEquals(scores[by].chance, alone[by].chance);
      }
    }
    model.release();
    const { scores } = told[0];

    const shown = new Report(() => 0, false).print(told[0]).text!;
    assertStringIncludes(shown, `tasks  /tasks.jsonl: 11, right by chance ${percent(scores.total.chance)}`);
    const data = reportData(mesh.events);
    assertEquals(data.tasks.map(({ file, scores }) => [file, scores.tasks]), [
      ["/tasks.jsonl", 11],
      ["/more.jsonl", 4],
    ]);
    const page = reportPage(data);
    assertStringIncludes(page, "tasks.jsonl");
    assertStringIncludes(page, percent(scores.relative.accuracy));
  } finally {
    await mesh.close();
  }
});

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

Deno.test("tasks that a phase cannot put are named before anything is trained", async () => {
  const mesh = await smallMesh("reference", 3);
  const refused = async (task: Record<string, unknown>, said: string) => {
    mesh.storage.text("/tasks.jsonl", lines([tasks[0], task]));
    await assertRejects(() => mesh.run(recipe), Error, said);
  };
  try {
    mesh.storage.text("/more.jsonl", lines(tasks));
    await assertRejects(() => mesh.run(recipe), Error, "There is no file of tasks /tasks.jsonl");
    await refused({ kind: "generate", prompt: "a", answers: ["b"] }, "/tasks.jsonl:2 is a generate task");
    await refused(
      { ...tasks[0], prompt: "a".repeat(30) },
      "line 2 has 34 tokens with its longest candidate, but (/tasks.jsonl) the phase's sequence is 24",
    );
    assert(mesh.events.every(({ event }) => event !== "plan"));
  } finally {
    await mesh.close();
  }
});
