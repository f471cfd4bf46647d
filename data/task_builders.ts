/**
 * Tasks out of dictionaries: choose the right meaning of a word whose entries are held out of training (`isHeldOut`).
 *
 * @module
 */
import { randomStream } from "../model/random.ts";
import type { ChooseTask } from "../model/tasks.ts";
import { type Entry, isHeldOut, lineOf } from "./dictionaries.ts";
import { DataError } from "./errors.ts";

/** Options of {@linkcode choiceTasks}. */
export interface ChoiceOptions {
  /** Tasks to make; fewer come out where fewer entries are held out. */
  readonly count: number;
  /** Meanings to choose from. */
  readonly candidates: number;
  readonly seed: number;
}

/** Meanings of fewer characters say nothing; longer ones make a task slow. */
const shortest = 8, longest = 160;

/**
 * For each of `count` held-out entries: its head as the prompt, its meaning among meanings of other held-out entries, in an
 * order drawn from the seed.
 *
 * @throws {DataError} if too few entries are held out.
 */
export function choiceTasks(entries: readonly Entry[], options: ChoiceOptions): ChooseTask[] {
  const { count, candidates, seed } = options, stream = randomStream(seed, "choice tasks");
  const pool = entries.filter((entry) =>
    entry.meaning.length >= shortest && entry.meaning.length <= longest && isHeldOut(lineOf(entry))
  );
  if (pool.length < Math.max(candidates, 2)) {
    throw new DataError(`Only ${pool.length} entries are held out: too few to choose among ${candidates}.`);
  }
  shuffle(pool, stream);
  return pool.slice(0, count).map((entry) => {
    const chosen = [entry];
    for (let tries = 0; chosen.length < candidates && tries < 1_000; tries++) {
      const other = pool[stream.integer(pool.length)];
      if (chosen.every(({ head, meaning }) => head !== other.head && meaning !== other.meaning)) {
        chosen.push(other);
      }
    }
    shuffle(chosen, stream);
    return {
      kind: "choose",
      prompt: entry.head,
      candidates: chosen.map(({ meaning }) => meaning),
      answer: chosen.indexOf(entry),
    };
  });
}

/** Fisher and Yates. */
function shuffle<T>(items: T[], stream: ReturnType<typeof randomStream>): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = stream.integer(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}
