/**
 * How well a model does tasks.
 *
 * @module
 */
import { NO_LABEL } from "./data_order.ts";
import { generate } from "./generate.ts";
import type { LoadedModel } from "../layers/local_model.ts";
import { type CandidateText, choicesOf, type ChooseScores, type Score, scoreOf } from "./task_choices.ts";
import {
  type ChooseTask,
  extractAnswer,
  type GenerateTask,
  isRight,
  type Numbered,
  type NumberedTask,
  TaskError,
} from "./tasks.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Tasks of one kind in one file. */
export type TaskScores = ChooseScores | {
  readonly kind: "generate";
  readonly tasks: number;
  readonly match: Score;
};

/** Puts tasks to a model; `progress` hears of tasks done. @throws {TaskError} for one that is too long for the model. */
export async function scoreTasks(
  model: LoadedModel,
  tokenizer: Tokenizer,
  tasks: readonly NumberedTask[],
  progress: (done: number, all: number) => void = () => {},
): Promise<TaskScores[]> {
  const choose = tasks.filter(({ task }) => task.kind === "choose") as Numbered<ChooseTask>[];
  const write = tasks.filter(({ task }) => task.kind === "generate") as Numbered<GenerateTask>[];
  const scores: TaskScores[] = [];
  if (choose.length > 0) {
    scores.push(await scoreChoices(model, tokenizer, choose, (done) => progress(done, tasks.length)));
  }
  if (write.length > 0) {
    const right: number[] = [];
    for (const one of write) {
      right.push(
        isRight(extractAnswer(await written(model, tokenizer, one), one.task.extract), one.task) ? 1 : 0,
      );
      progress(choose.length + right.length, tasks.length);
    }
    const match = scoreOf(right, write.map(({ task }) => task.chance));
    scores.push({ kind: "generate", tasks: write.length, match });
  }
  return scores;
}

/** Tokens in a pass: enough to keep a device busy, with activations that fit any. */
const tokensAtOnce = 1 << 13;

async function scoreChoices(
  model: LoadedModel,
  tokenizer: Tokenizer,
  tasks: readonly Numbered<ChooseTask>[],
  progress: (done: number) => void,
): Promise<ChooseScores> {
  const { maxPositions } = model.config;
  const { texts, scores } = choicesOf(tokenizer, tasks, {
    tokens: maxPositions,
    because: "the model was made for",
  });
  for (let first = 0; first < texts.length;) {
    let last = first + 1;
    while (last < texts.length && (last - first + 1) * (texts[last].ids.length - 1) <= tokensAtOnce) last++;
    await addLosses(model, texts.slice(first, last));
    first = last;
    progress(Math.floor(tasks.length * first / texts.length));
  }
  return scores();
}

/** Runs texts side by side and adds up the losses of their candidates' tokens. */
async function addLosses(model: LoadedModel, texts: readonly CandidateText[]): Promise<void> {
  const batch = texts.length, sequence = Math.max(...texts.map(({ ids }) => ids.length)) - 1;
  const ids = new Uint32Array(batch * sequence), labels = new Uint32Array(batch * sequence).fill(NO_LABEL);
  texts.forEach((text, i) => {
    ids.set(text.ids.subarray(0, -1), i * sequence);
    labels.set(text.ids.subarray(text.from), i * sequence + text.from - 1);
  });
  const losses = await model.tokenLosses({ ids, batch, sequence }, labels);
  texts.forEach((text, i) => {
    for (const loss of losses.subarray(i * sequence, (i + 1) * sequence)) text.nats += loss;
  });
}

/** What the model writes after a task's prompt: its likeliest token each time, up to where the task says. */
async function written(
  model: LoadedModel,
  tokenizer: Tokenizer,
  { task, line }: Numbered<GenerateTask>,
): Promise<string> {
  const prompt = Uint32Array.from([...tokenizer.prefix, ...tokenizer.encode(task.prompt)]);
  if (prompt.length === 0) throw new TaskError(`The task in line ${line} has an empty prompt.`);
  const room = model.config.maxPositions - prompt.length + 1;
  if (room < 1) {
    throw new TaskError(
      `The task in line ${line} has a prompt of ${prompt.length} tokens, but the model was made for ` +
        `${model.config.maxPositions}. Shorten it, or leave the task out.`,
    );
  }
  const stream = tokenizer.stream(), maxTokens = Math.min(room, task.max_tokens);
  const options = { maxTokens, temperature: 0, topP: 1, seed: 0, ...stopOf(tokenizer) };
  let text = "";
  for await (const id of generate(model, prompt, options)) {
    text += stream.push(id);
    const ends = task.until.map((end) => text.indexOf(end)).filter((at) => at >= 0);
    if (ends.length > 0) return text.slice(0, Math.min(...ends));
  }
  return text + stream.end();
}

function stopOf({ eos }: Tokenizer): { stop?: number } {
  return eos === undefined ? {} : { stop: eos };
}
