/**
 * Tasks scored by hand. The model knows one thing: after a comes b, then c, then d, then a again, each with probability 1/2;
 * everything else has 1/516. So a step along the alphabet costs ln 2 = 0.693 nats and any other after one of the four ln 516 =
 * 6.246. After every other token, the beginning included, all 259 are as likely: ln 259 = 5.557.
 */
import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../kernels/mod.ts";
import { byteTokenizer } from "../../model/text/byte_tokenizer.ts";
import { parseConfig } from "../../model/config.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { scoreOf } from "../../model/text/task_choices.ts";
import { scoreTasks } from "../../model/text/task_scores.ts";
import { extractAnswer, isRight, readTasks } from "../../model/text/tasks.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { memorySource } from "./models.ts";

const hidden = 8, vocabulary = 259, letters = "abcd";

/** Attention and MLP add nothing; the embedding says which letter it is, the head what comes after it. */
async function alphabet(): Promise<LoadedModel> {
  const config = parseConfig({
    hidden_size: hidden,
    intermediate_size: 4,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    head_dim: 8,
    vocab_size: vocabulary,
    max_position_embeddings: 40,
    rms_norm_eps: 1e-12,
  });
  const weights = new Map(
    parameterTable(config).map(({ name, shape, role }) => {
      const words = new Float32Array(elements(shape)).fill(role.endsWith("norm") ? 1 : 0);
      const code = (letter: number) => letters.charCodeAt(letter % letters.length);
      if (role === "embedding") {
        for (let token = 0; token < vocabulary; token++) {
          const letter = letters.indexOf(String.fromCharCode(token));
          words[token * hidden + (letter < 0 ? letters.length : letter)] = 1;
        }
      }
      if (role === "head") {
        // The norm makes sqrt(hidden) of the one; 258 : 1 is half of the probability.
        for (let l = 0; l < letters.length; l++) {
          words[code(l + 1) * hidden + l] = Math.log(258) / Math.sqrt(hidden);
        }
      }
      return [name, words];
    }),
  );
  return await LoadedModel.load(await openDevice({ kind: "reference" }), memorySource(config, weights));
}

const fixture = [
  // 3 ln 2 = 2.08 against 6.25 and 11.80: right by every measure. The prompt saves ln 259 - ln 2 = 4.86 of the first letter,
  // and costs the others ln 516 - ln 259 = 0.69.
  { kind: "choose", prompt: "a", candidates: ["x", "bcd", "xb"], answer: 1 },
  // 11 ln 2 = 7.62 against 6.25: wrong by the total; 0.69 a token and a character against 6.25: right; the prompt helps it.
  { kind: "choose", prompt: "a", candidates: ["bcdabcdabcd", "x"], answer: 0 },
  // ln 2 + ln 516 + 2 ln 259 = 18.05 in 4 tokens and 2 characters: 4.51 a token (right), 9.03 a character and 18.05 (wrong);
  // the prompt helps it (right).
  { kind: "choose", prompt: "a", candidates: ["x", "b中"], answer: 1 },
  // Both alike: half right by every measure.
  { kind: "choose", prompt: "d", candidates: ["x", "y"], answer: 0 },
  { kind: "generate", prompt: "a", answers: ["bcd"], max_tokens: 3 },
  { kind: "generate", prompt: "xa", answers: ["z", "bc"], until: ["d"] },
  { kind: "generate", prompt: "b", answers: ["7"], extract: "number", compare: "number", chance: 0.1 },
  {
    kind: "generate",
    prompt: "a",
    answers: ["D"],
    max_tokens: 7,
    extract: { pattern: "c(.)a" },
    compare: "loose",
  },
];

async function read(lines: readonly unknown[]) {
  const storage = new MemoryStorage();
  storage.text(
    "/t.jsonl",
    lines.map((line) => typeof line === "string" ? line : JSON.stringify(line)).join("\n"),
  );
  return await readTasks(storage, "/t.jsonl");
}

Deno.test("scores are those counted by hand", async () => {
  const model = await alphabet(), seen: number[] = [];
  const scores = await scoreTasks(model, byteTokenizer(), await read(fixture), (done) => seen.push(done));
  const [choose, write] = scores;
  assert(choose.kind === "choose" && write.kind === "generate" && scores.length === 2);
  assertEquals([choose.tasks, write.tasks], [4, 4]);
  assertEquals([choose.total.right, choose.tokens.right, choose.characters.right], [1.5, 3.5, 2.5]);
  assertEquals(choose.relative.right, 3.5);
  // Behind nothing every first letter costs the same, so the shortest is chosen: wrong, but for half of the last.
  assertEquals(choose.promptless.right, 0.5);
  assertAlmostEquals(choose.total.accuracy, 1.5 / 4);
  assertAlmostEquals(choose.total.standardError, Math.sqrt(0.375 * 0.625 / 4));
  assertAlmostEquals(choose.total.chance, (1 / 3 + 3 / 2) / 4);
  assertEquals(write.match.right, 3);
  assertAlmostEquals(write.match.chance, 0.1 / 4);
  assertAlmostEquals(write.match.aboveChance, (0.75 - 0.025) / Math.sqrt(0.75 * 0.25 / 4));
  assertEquals(seen.at(-1), 8);
  model.release();
});

Deno.test("without the prompt a candidate stands behind the premise", async () => {
  const model = await alphabet();
  // Behind a, b costs ln 2 and d ln 516; behind c it is the other way round.
  const task = { kind: "choose", prompt: "a", premise: "c", candidates: ["d", "b"], answer: 1 };
  const [choose] = await scoreTasks(model, byteTokenizer(), await read([task]));
  assert(choose.kind === "choose");
  assertEquals([choose.total.right, choose.relative.right, choose.promptless.right], [1, 1, 0]);
  model.release();
});

Deno.test("a perfect score is measured against guessing, whose standard error is not zero", () => {
  const { standardError, aboveChance } = scoreOf(Array(100).fill(1), Array(100).fill(0.25));
  assertEquals(standardError, 0);
  assertAlmostEquals(aboveChance, 0.75 / Math.sqrt(0.25 * 0.75 / 100));
});

Deno.test("answers are taken from a text and compared as the task says", () => {
  const text = "\n  It is 1,234.5 or -7.\nMore";
  assertEquals(extractAnswer(text, "all"), text.trim());
  assertEquals(extractAnswer(text, "line"), "It is 1,234.5 or -7.");
  assertEquals(extractAnswer(text, "word"), "It");
  assertEquals(extractAnswer(text, "number"), "1,234.5");
  assertEquals(extractAnswer(text, "last-number"), "-7");
  assertEquals(extractAnswer(text, { pattern: "or (\\S+)\\." }), "-7");
  assertEquals(extractAnswer("none", "number"), undefined);
  assert(isRight("1,234.50", { answers: ["1234.5"], compare: "number" }));
  assert(!isRight("", { answers: ["0"], compare: "number" }));
  assert(isRight("  The WATER!", { answers: ["the water"], compare: "loose" }));
  assert(isRight("the water is", { answers: ["Water"], compare: "contains" }));
  assert(!isRight("underwater", { answers: ["water"], compare: "contains" }));
  assert(isRight("这是水。", { answers: ["水"], compare: "contains" }));
  assert(!isRight("Water", { answers: ["water"], compare: "equal" }));
});

Deno.test("what is no task is named with its line", async () => {
  const good = fixture[0];
  for (
    const [lines, said] of [
      [[good, "{"], "/t.jsonl:2 is not valid JSON"],
      [
        [good, "", { kind: "choose", prompt: "a", candidates: ["b"], answer: 0 }],
        "/t.jsonl:3 is no task: candidates",
      ],
      [[{ ...good, answer: 3 }], "answer is 3, but its 3 candidates are counted from 0"],
      [[{ ...good, solution: 1 }], "solution"],
      [[{ kind: "ask" }], "kind"],
      [[{ kind: "generate", prompt: "", answers: ["x"], extract: { pattern: "(" } }], "extract"],
      [[""], "holds no tasks"],
    ] as [unknown[], string][]
  ) await assertRejects(() => read(lines), Error, said);
  await assertRejects(() => readTasks(new MemoryStorage(), "/none"), Error, "There is no file of tasks");
  const model = await alphabet();
  const long = await read([good, {
    kind: "choose",
    prompt: "a".repeat(50),
    candidates: ["x", "y"],
    answer: 0,
  }]);
  await assertRejects(() => scoreTasks(model, byteTokenizer(), long), Error, "in line 2 has 52 tokens");
  model.release();
});
