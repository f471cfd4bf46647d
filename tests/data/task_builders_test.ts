/** Tasks out of dictionaries: fair by construction, of words that are held out, the same each time. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Entry, isHeldOut, lineOf } from "../../data/dictionaries.ts";
import { choiceTasks, definition, translation } from "../../data/task_builders.ts";

/** Words with meanings of 10 to 49 characters; a tenth of them has two entries, and some share a meaning. */
const entries: Entry[] = Array.from({ length: 20_000 }, (_, i) => ({
  head: `word${i % 18_000}: `,
  meaning: `${i % 500 === 0 ? "common" : i} ${"x".repeat(10 + i * 7 % 40)}`,
}));
const plain = ({ meaning }: Entry) => meaning;
const options = { count: Infinity, candidates: 4, seed: 1 };
const tasks = choiceTasks(entries, plain, options);

Deno.test("every task asks for a held-out word, with its meaning among others of the same length", () => {
  const meanings = new Map<string, Set<string>>();
  for (const { head, meaning } of entries) {
    meanings.set(head, (meanings.get(head) ?? new Set()).add(meaning));
  }
  assert(tasks.length > 300);
  for (const task of tasks) {
    assert(isHeldOut(task.prompt));
    assertEquals(task.premise, ": ");
    assertEquals(
      task.candidates.map((candidate) => meanings.get(task.prompt)!.has(candidate)),
      task.candidates.map((_, c) => c === task.answer),
    );
    const lengths = task.candidates.map(({ length }) => length);
    assert(Math.max(...lengths) - Math.min(...lengths) <= 3, `${lengths}`);
  }
  assertEquals(new Set(tasks.map(({ prompt }) => prompt)).size, tasks.length, "each word is asked for once");
});

Deno.test("whoever ignores the word is right exactly as often as chance", () => {
  const ignorant: readonly ((candidate: string) => number)[] = [
    (candidate) => candidate.length,
    (candidate) => -candidate.length,
    (candidate) => candidate.split("").reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 1_009, 0),
  ];
  for (const liking of ignorant) {
    const right = tasks.filter(({ candidates, answer }) => {
      const likings = candidates.map(liking), least = Math.min(...likings);
      // Of equal ones the first in the alphabet, whoever asks.
      const chosen = candidates.filter((_, c) => likings[c] === least).toSorted()[0];
      return candidates.indexOf(chosen) === answer;
    });
    assertEquals(right.length, tasks.length / 4);
  }
});

Deno.test("the same seed gives the same tasks, another one others, and fewer are a part of them", () => {
  assertEquals(choiceTasks(entries, plain, options), tasks);
  assert(choiceTasks(entries, plain, { ...options, seed: 2 })[0].prompt !== tasks[0].prompt);
  assertEquals(choiceTasks(entries, plain, { ...options, count: 10 }), tasks.slice(0, 10));
  const few = entries.filter((entry) => isHeldOut(lineOf(entry))).slice(0, 3);
  assertThrows(() => choiceTasks(few, plain, options), Error, "Only 3 entries are held out");
});

Deno.test("meanings are asked for without what shows the word", () => {
  const of = (meaning: string): Entry => ({ head: "", meaning });
  assertEquals(
    definition(of('move fast; hurry; "He ran home"; "run!"')),
    "move fast; hurry",
  );
  assertEquals(definition(of("a clear liquid")), "a clear liquid");
  assertEquals(translation(of("cup; glass; CL:個|个[ge4]")), "cup; glass");
  assertEquals(translation(of("variant of 杯[bei1]")), undefined);
});
