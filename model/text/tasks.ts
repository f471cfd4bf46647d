/**
 * Tasks with known answers, as JSON lines.
 *
 * Choose: which candidate goes on best after the prompt (the lowest loss wins).
 *
 *     {"kind": "choose", "prompt": "water: ", "candidates": ["a clear liquid", "to run fast"], "answer": 0}
 *
 * Generate: what the model writes after the prompt, from which an answer is taken and compared.
 *
 *     {"kind": "generate", "prompt": "2 + 2 = ", "answers": ["4"], "extract": "number", "compare": "number"}
 *
 * @module
 */
import { z } from "zod";
import { ModelError } from "../errors.ts";
import { type FileReader, readText } from "../files.ts";

/** Tasks that cannot be read or put to a model; the message names the line. */
export class TaskError extends ModelError {
  override readonly name = "TaskError";
}

const text = z.string();

const Choose = z.strictObject({
  kind: z.literal("choose"),
  prompt: text,
  /** Continuations of the prompt, put behind it as they are. */
  candidates: z.array(z.string().min(1)).min(2).max(256),
  /** Index of the right one, from 0. */
  answer: z.int().min(0),
  /** What stands in the prompt's place where a candidate's loss without the prompt is asked for; default: nothing. */
  premise: text.default(""),
  /** For people; anything. */
  id: z.union([z.string(), z.number()]).optional(),
});
/** See the module's description. */
export type ChooseTask = z.infer<typeof Choose>;

const Generate = z.strictObject({
  kind: z.literal("generate"),
  prompt: text,
  /** Any of them is right. */
  answers: z.array(text).min(1),
  /** Writing ends before any of these. */
  until: z.array(z.string().min(1)).default(["\n"]),
  max_tokens: z.int().min(1).max(65_536).default(64),
  /**
   * What is taken of it: "all", the first "line" that is not blank, the first "word", the first or the last "number", or
   * {"pattern": "regular expression"} (its first group, or the whole match). White space at both ends goes.
   */
  extract: z.union([
    z.enum(["all", "line", "word", "number", "last-number"]),
    z.strictObject({ pattern: z.string().min(1) }),
  ]).default("all"),
  /**
   * "equal": the same characters; "loose": the same but for case, marks and white space; "contains": the answer stands in
   * it, loosely; "number": the same number.
   */
  compare: z.enum(["equal", "loose", "contains", "number"]).default("equal"),
  /** How often guessing is right. */
  chance: z.number().min(0).max(1).default(0),
  id: z.union([z.string(), z.number()]).optional(),
});
/** See the module's description. */
export type GenerateTask = z.infer<typeof Generate>;

const TaskLine = z.discriminatedUnion("kind", [Choose, Generate]);

/** A task and its line in the file. */
export interface Numbered<T> {
  readonly line: number;
  readonly task: T;
}

/** A task of either kind. */
export type NumberedTask = Numbered<ChooseTask | GenerateTask>;

/** Reads a file of tasks. @throws {TaskError} naming the first line that is none. */
export async function readTasks(files: FileReader, path: string): Promise<NumberedTask[]> {
  let content: string | undefined;
  try {
    content = await readText(files, path);
  } catch (error) {
    throw new TaskError(`${path} cannot be read as tasks: ${(error as Error).message}`);
  }
  if (content === undefined) throw new TaskError(`There is no file of tasks ${path}.`);
  const tasks = content.split("\n").flatMap((line, i) =>
    line.trim() === "" ? [] : [{ line: i + 1, task: readTask(line, `${path}:${i + 1}`) }]
  );
  if (tasks.length === 0) throw new TaskError(`${path} holds no tasks.`);
  return tasks;
}

function readTask(line: string, place: string): ChooseTask | GenerateTask {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch (error) {
    throw new TaskError(`${place} is not valid JSON: ${(error as Error).message}`);
  }
  const read = TaskLine.safeParse(json);
  if (!read.success) {
    const [issue] = read.error.issues;
    throw new TaskError(`${place} is no task: ${issue.path.join(".") || "the line"}: ${issue.message}.`);
  }
  const task = read.data;
  if (task.kind === "choose" && task.answer >= task.candidates.length) {
    throw new TaskError(
      `${place} is no task: answer is ${task.answer}, but its ${task.candidates.length} candidates are counted from 0.`,
    );
  }
  if (task.kind === "generate" && typeof task.extract === "object") {
    try {
      new RegExp(task.extract.pattern, "u");
    } catch (error) {
      throw new TaskError(`${place} is no task: extract: ${(error as Error).message}.`);
    }
  }
  return task;
}

/** What a generated text answers; undefined where there is nothing of the kind. */
export function extractAnswer(written: string, extract: GenerateTask["extract"]): string | undefined {
  const find = (pattern: RegExp) => {
    const match = written.match(pattern);
    return (match?.[1] ?? match?.[0])?.trim();
  };
  if (typeof extract === "object") return find(new RegExp(extract.pattern, "u"));
  switch (extract) {
    case "all":
      return written.trim();
    case "line":
      return find(/^.*\S.*$/mu);
    case "word":
      return find(/[\p{L}\p{M}\p{N}]+/u);
    case "number":
      return find(numbers);
    case "last-number":
      return [...written.matchAll(new RegExp(numbers, "gu"))].at(-1)?.[0];
  }
}

const numbers = /-?\d[\d,]*(?:\.\d+)?/u;

/** Whether an answer is one of those that are right. */
export function isRight(
  answer: string | undefined,
  { answers, compare }: Pick<GenerateTask, "answers" | "compare">,
): boolean {
  if (answer === undefined) return false;
  return answers.some((right) => {
    switch (compare) {
      case "equal":
        return answer === right;
      case "loose":
        return loose(answer) === loose(right);
      case "contains":
        return ` ${loose(answer)} `.includes(unspaced.test(right) ? loose(right) : ` ${loose(right)} `);
      case "number":
        return answer.trim() !== "" && number(answer) === number(right);
    }
  });
}

const unspaced = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;

function loose(text: string): string {
  return text.normalize("NFKC").toLowerCase().replace(/[^\p{L}\p{M}\p{N}]+/gu, " ").trim();
}

function number(text: string): number {
  return Number(text.replaceAll(",", "").trim());
}
