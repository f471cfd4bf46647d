/**
 * Choose tasks without a model: their candidates as texts whose losses are asked for, and the scores that the losses make.
 *
 * @module
 */
import { type ChooseTask, type Numbered, TaskError } from "./tasks.ts";
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

/** Choose tasks of one file. */
export interface ChooseScores {
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

/** A candidate behind its prompt, in ids; those from `from` on are the candidate's. */
export interface CandidateText {
  readonly ids: Uint32Array<ArrayBuffer>;
  readonly from: number;
  readonly characters: number;
  /** Loss of the candidate's tokens: whoever measures adds it up here. */
  nats: number;
}

/** Tasks as texts. */
export interface Choices {
  /** Texts with losses to measure, shortest first: little is padding where neighbours are put side by side. */
  readonly texts: readonly CandidateText[];
  /** What came of it. */
  readonly scores: () => ChooseScores;
}

/** What bounds a text: so many tokens can be put behind each other, says who is named. */
export interface LongestText {
  readonly tokens: number;
  readonly because: string;
}

/** Makes texts of tasks. @throws {TaskError} for one that is too long. */
export function choicesOf(
  tokenizer: Tokenizer,
  tasks: readonly Numbered<ChooseTask>[],
  longest: LongestText,
): Choices {
  const behind = tasks.map(({ task, line }) =>
    task.candidates.map((candidate) => textOf(tokenizer, task.prompt, candidate, line, longest))
  );
  // Many tasks may share candidates, which cost the same without the prompt.
  const promptless = new Map<string, CandidateText>();
  const alone = tasks.map(({ task: { candidates, premise }, line }) =>
    candidates.map((candidate) => {
      const key = JSON.stringify([premise, candidate]);
      const known = promptless.get(key) ?? textOf(tokenizer, premise, candidate, line, longest);
      promptless.set(key, known);
      return known;
    })
  );
  const chances = tasks.map(({ task }) => 1 / task.candidates.length);
  const by = (loss: (behind: CandidateText, alone: CandidateText) => number) =>
    scoreOf(
      tasks.map(({ task }, t) => creditOf(behind[t].map((one, c) => loss(one, alone[t][c])), task.answer)),
      chances,
    );
  return {
    // A text of one token has nothing before it to be predicted from.
    texts: [...behind.flat(), ...promptless.values()].filter(({ ids }) => ids.length > 1)
      .sort((a, b) => a.ids.length - b.ids.length),
    scores: () => ({
      kind: "choose",
      tasks: tasks.length,
      total: by(({ nats }) => nats),
      tokens: by(({ nats, ids, from }) => nats / Math.max(1, ids.length - from)),
      characters: by(({ nats, characters }) => nats / characters),
      relative: by((behind, alone) => behind.nats - alone.nats),
      promptless: by((_, alone) => alone.nats),
    }),
  };
}

function textOf(
  tokenizer: Tokenizer,
  prompt: string,
  candidate: string,
  line: number,
  { tokens, because }: LongestText,
): CandidateText {
  const { prefix } = tokenizer;
  const before = [...prefix, ...tokenizer.encode(prompt)];
  const ids = Uint32Array.from([...prefix, ...tokenizer.encode(prompt + candidate)]);
  // Tokens may run across the end of the prompt: what the two do not share belongs to the candidate.
  let from = 0;
  while (from < before.length && from < ids.length - 1 && before[from] === ids[from]) from++;
  if (ids.length - 1 > tokens) {
    throw new TaskError(
      `The task in line ${line} has ${ids.length} tokens with its longest candidate, but ${because} ${tokens}. ` +
        `Shorten the prompt, or leave the task out.`,
    );
  }
  // Without a token before it the first one cannot be predicted; a candidate of one token then costs nothing.
  return { ids, from: Math.max(1, from), characters: [...candidate].length, nats: 0 };
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
