/**
 * Tasks out of dictionaries: choose the right meaning of a word whose entries are held out of training (`isHeldOut`).
 *
 * Meanings come in sets of equal length (nearly), and every word of a set is asked for with the same candidates. So each
 * candidate is right once and wrong as often as it can be: whoever ignores the word, whatever it likes to say or to leave
 * unsaid, is right exactly as often as chance.
 *
 * @module
 */
import { randomStream } from "../model/random.ts";
import type { ChooseTask } from "../model/text/tasks.ts";
import { type Entry, isHeldOut, lineOf } from "./dictionaries.ts";
import { DataError } from "./errors.ts";

/** Options of {@linkcode choiceTasks}. */
export interface ChoiceOptions {
  /** Most tasks to make; fewer come out where fewer entries are held out. */
  readonly count: number;
  /** Meanings to choose from. */
  readonly candidates: number;
  readonly seed: number;
}

/** Meanings of fewer characters say nothing; longer ones make a task slow. */
const shortest = 8, longest = 160;

/**
 * Right meanings for words: an entry's head is the prompt, its meaning stands among those of other held-out entries of the
 * same length. `plain` says what of a meaning is asked for (undefined: nothing).
 *
 * @throws {DataError} if too few entries are held out.
 */
export function choiceTasks(
  entries: readonly Entry[],
  plain: (entry: Entry) => string | undefined,
  options: ChoiceOptions,
): ChooseTask[] {
  const { count, candidates, seed } = options, stream = randomStream(seed, "choice tasks");
  const pool = entries.flatMap((entry) => {
    const meaning = isHeldOut(lineOf(entry)) ? plain(entry) : undefined;
    return meaning !== undefined && meaning.length >= shortest && meaning.length <= longest
      ? [{ head: entry.head, meaning }]
      : [];
  });
  // One entry of each word and of each meaning, so that no other answer is right as well.
  shuffle(pool, stream);
  const heads = new Set<string>(), meanings = new Set<string>();
  const different = pool.filter(({ head, meaning }) => {
    if (heads.has(head) || meanings.has(meaning)) return false;
    heads.add(head);
    meanings.add(meaning);
    return true;
  });
  if (different.length < candidates) {
    throw new DataError(
      `Only ${different.length} entries are held out: too few to choose among ${candidates}.`,
    );
  }
  // The sort is stable, so entries of one length stay in random order.
  different.sort((a, b) => a.meaning.length - b.meaning.length);
  const sets = Array.from(
    { length: Math.floor(different.length / candidates) },
    (_, s) => different.slice(s * candidates, (s + 1) * candidates),
  );
  shuffle(sets, stream);
  return sets.slice(0, Math.ceil(count / candidates)).flatMap((set) => {
    shuffle(set, stream);
    return set.map(({ head }, answer): ChooseTask => ({
      kind: "choose",
      prompt: head,
      premise: head.slice(head.search(/[:\]]/)),
      candidates: set.map(({ meaning }) => meaning),
      answer,
    }));
  }).slice(0, count);
}

/** A gloss of WordNet without its examples, which may show the word. */
export function definition({ meaning }: Entry): string {
  const examples = meaning.search(/; *"/);
  return (examples < 0 ? meaning : meaning.slice(0, examples)).trim();
}

/** What CC-CEDICT says in English: no measure words and no references, which show other Chinese words. */
export function translation({ meaning }: Entry): string | undefined {
  const parts = meaning.split("; ").filter((part) => !/\p{Script=Han}/u.test(part));
  return parts.length === 0 ? undefined : parts.join("; ");
}

/** Fisher and Yates. */
function shuffle<T>(items: T[], stream: ReturnType<typeof randomStream>): void {
  for (let i = items.length - 1; i > 0; i--) {
    const j = stream.integer(i + 1);
    [items[i], items[j]] = [items[j], items[i]];
  }
}
