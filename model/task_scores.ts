/**
 * How well a model does tasks.
 *
 * @module
 */
import { generate } from "./generate.ts";
import type { LoadedModel } from "./local_model.ts";
import {
  type ChooseTask,
  extractAnswer,
  type GenerateTask,
  isRight,
  type NumberedTask,
  TaskError,
} from "./tasks.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Share of tasks that are right. */
export interface Score {
  readonly right: number;
  readonly accuracy: number;
  /** sqrt(accuracy * (1 - accuracy) / tasks). */
  readonly standardError: number;
  /** What guessing gives on average. */
  readonly chance: number;
  /** (accuracy - chance) in standard errors: the accuracy's own or guessing's, whichever is larger. */
  readonly aboveChance: number;
}

/** Tasks of one kind in one file. */
export type TaskScores =
  | {
    readonly kind: "choose";
    readonly tasks: number;
    /** By what a candidate's loss is divided: nothing, its tokens, its characters. */
    readonly total: Score;
    readonly tokens: Score;
    readonly characters: Score;
    /**
     * By the loss less what the candidate costs behind the task's premise alone: how much the prompt helps, whatever is
     * likely anyway (Holtzman et al., "Surface form competition", 2021).
     */
    readonly relative: Score;
    /**
     * By the loss without the prompt: what is likely anyway. A model cannot know the answer from that, so an accuracy far
     * from chance says that the tasks give it away.
     */
    readonly promptless: Score;
  }
  | { readonly kind: "generate"; readonly tasks: number; readonly match: Score };

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

interface Numbered<T> {
  readonly line: number;
  readonly task: T;
}

/** A candidate behind its prompt, in ids; those from `from` on are the candidate's. */
interface Sequence {
  readonly ids: Uint32Array;
  readonly from: number;
  readonly characters: number;
  nats: number;
}

/** Logits that are read at a time: 32 MiB. */
const logitsAtOnce = 1 << 23;

async function scoreChoices(
  model: LoadedModel,
  tokenizer: Tokenizer,
  tasks: readonly Numbered<ChooseTask>[],
  progress: (done: number) => void,
): Promise<TaskScores> {
  const sequences = tasks.map(({ task, line }) =>
    task.candidates.map((candidate) => sequenceOf(model, tokenizer, task.prompt, candidate, line))
  );
  // Many tasks may share candidates, which cost the same without the prompt.
  const promptless = new Map<string, Sequence>();
  const alone = tasks.map(({ task: { candidates, premise }, line }) =>
    candidates.map((candidate) => {
      const key = JSON.stringify([premise, candidate]);
      const known = promptless.get(key) ?? sequenceOf(model, tokenizer, premise, candidate, line);
      promptless.set(key, known);
      return known;
    })
  );
  // Alike in length, so that little is padding; a longer row of zeros behind a text changes nothing before it.
  const sorted = [...sequences.flat(), ...promptless.values()].toSorted((a, b) => a.ids.length - b.ids.length);
  const { vocabSize } = model.config;
  for (let first = sorted.findIndex(({ ids }) => ids.length > 1); first < sorted.length && first >= 0;) {
    let last = first + 1;
    while (
      last < sorted.length && (last - first + 1) * (sorted[last].ids.length - 1) * vocabSize <= logitsAtOnce
    ) last++;
    await addLosses(model, sorted.slice(first, last));
    first = last;
    progress(Math.floor(tasks.length * first / sorted.length));
  }
  const chances = tasks.map(({ task }) => 1 / task.candidates.length);
  const by = (loss: (sequence: Sequence, alone: Sequence) => number) =>
    scoreOf(
      tasks.map(({ task }, t) => creditOf(sequences[t].map((one, c) => loss(one, alone[t][c])), task.answer)),
      chances,
    );
  return {
    kind: "choose",
    tasks: tasks.length,
    total: by(({ nats }) => nats),
    tokens: by(({ nats, ids, from }) => nats / Math.max(1, ids.length - from)),
    characters: by(({ nats, characters }) => nats / characters),
    relative: by((behind, alone) => behind.nats - alone.nats),
    promptless: by((_, alone) => alone.nats),
  };
}

function sequenceOf(
  model: LoadedModel,
  tokenizer: Tokenizer,
  prompt: string,
  candidate: string,
  line: number,
): Sequence {
  const { prefix } = tokenizer, { maxPositions } = model.config;
  const before = [...prefix, ...tokenizer.encode(prompt)];
  const ids = Uint32Array.from([...prefix, ...tokenizer.encode(prompt + candidate)]);
  // Tokens may run across the end of the prompt: what the two do not share belongs to the candidate.
  let from = 0;
  while (from < before.length && from < ids.length - 1 && before[from] === ids[from]) from++;
  if (ids.length - 1 > maxPositions) {
    throw new TaskError(
      `The task in line ${line} has ${ids.length} tokens with its longest candidate, but the model was made for ` +
        `${maxPositions}. Shorten the prompt, or leave the task out.`,
    );
  }
  // Without a token before it the first one cannot be predicted; a candidate of one token then costs nothing.
  return { ids, from: Math.max(1, from), characters: [...candidate].length, nats: 0 };
}

/** Runs texts side by side and adds up the losses of their candidates' tokens. */
async function addLosses(model: LoadedModel, texts: readonly Sequence[]): Promise<void> {
  const sequence = Math.max(...texts.map(({ ids }) => ids.length)) - 1, { vocabSize } = model.config;
  const ids = new Uint32Array(texts.length * sequence);
  texts.forEach((text, i) => ids.set(text.ids.subarray(0, -1), i * sequence));
  const logits = await model.forwardLogits({ ids, batch: texts.length, sequence });
  for (const [i, text] of texts.entries()) {
    for (let at = text.from; at < text.ids.length; at++) {
      const row = (i * sequence + at - 1) * vocabSize;
      text.nats += lossOf(logits.subarray(row, row + vocabSize), text.ids[at]);
    }
  }
}

/** -log softmax(logits)[label]. */
function lossOf(logits: Float32Array, label: number): number {
  let most = -Infinity, sum = 0;
  for (const logit of logits) if (logit > most) most = logit;
  for (const logit of logits) sum += Math.exp(logit - most);
  return most + Math.log(sum) - logits[label];
}

/** 1 where the answer alone is lowest; a part where others are as low. */
function creditOf(losses: readonly number[], answer: number): number {
  const least = Math.min(...losses);
  return losses[answer] === least ? 1 / losses.filter((loss) => loss === least).length : 0;
}

/** Accuracy of what was right (0 to 1 each) with chances for each. */
export function scoreOf(right: readonly number[], chances: readonly number[]): Score {
  const n = right.length, sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const accuracy = sum(right) / n, chance = sum(chances) / n;
  const standardError = Math.sqrt(accuracy * (1 - accuracy) / n);
  const ofGuessing = Math.sqrt(sum(chances.map((c) => c * (1 - c)))) / n;
  const error = Math.max(standardError, ofGuessing);
  return {
    right: sum(right),
    accuracy,
    standardError,
    chance,
    aboveChance: error === 0 ? 0 : (accuracy - chance) / error,
  };
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
