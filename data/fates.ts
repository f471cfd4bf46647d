/**
 * What becomes of each document that was read: a duplicate leaves, some are kept for validation, all others train.
 *
 * @module
 */
import type { FileStore } from "../model/files.ts";
import { randomStream } from "../model/random.ts";
import type { PrepareConfig } from "./config.ts";
import { type DocumentStore, fate } from "./document_store.ts";
import { markExact, markLeaks, markNear, Signatures } from "./duplicates.ts";
import { DataError } from "./errors.ts";
import { limits } from "./limits.ts";
import { countDropped, excerpt, type PrepareReport, steps } from "./report.ts";

/**
 * Marks duplicates in `store.fates`, draws the validation documents, and removes from training what is like them; counts what
 * left in `report`. Signatures are written to the folder `work`.
 *
 * @throws {DataError} if a domain has too few documents left to train, or none is drawn for validation.
 */
export async function decideFates(
  files: FileStore,
  work: string,
  config: PrepareConfig,
  store: DocumentStore,
  report: PrepareReport,
  pause: (done: number, all: number) => Promise<void>,
): Promise<void> {
  const { exact, near } = config.deduplicate;
  const found = (step: "exact" | "near" | "leak") => async (document: number, like: number) => {
    const name = config.domain[store.domains[document]].name;
    const title = steps.find(([key]) => key === step)![1];
    const reasons = report[name].dropped[step]?.[title];
    const sample = reasons !== undefined && reasons.samples.length >= limits.samples
      ? ""
      : step === "exact"
      ? excerpt(await store.text(document))
      : `${excerpt(await store.text(document))} ~ ${excerpt(await store.text(like))}`;
    countDropped(report, name, step, title, store.lengths[document], () => sample);
  };
  if (exact) await markExact(store, found("exact"), pause);
  const signatures = await Signatures.write(files, work, store, pause);
  if (near !== false) await markNear(signatures, near, found("near"), pause);
  drawValidation(config, store);
  // Without a threshold of its own, what is like a validation document leaves by the usual one.
  await markLeaks(signatures, near === false ? 0.75 : near, found("leak"), pause);
  const left = Array.from(config.domain, () => 0);
  let validation = 0;
  for (let i = 0; i < store.count; i++) {
    if (store.fates[i] === fate.train) left[store.domains[i]]++;
    if (store.fates[i] === fate.validation) validation++;
  }
  const empty = config.domain.find((_, d) => left[d] === 0);
  if (empty !== undefined || validation === 0) {
    throw new DataError(
      `After duplicates were dropped too few documents are left to keep ${config.validation} of them ` +
        `for validation${empty === undefined ? "" : ` (domain "${empty.name}")`}. Give more text, cut ` +
        `it into smaller documents (documents = "paragraph"), or choose a larger share.`,
    );
  }
}

/** A document's side depends on the seed and its content only: equal documents stay together, and more text moves none. */
function drawValidation(config: PrepareConfig, store: DocumentStore): void {
  for (let i = 0; i < store.count; i++) {
    if (!store.kept(i)) continue;
    const chance = randomStream(config.seed, "validation", store.hashes[2 * i], store.hashes[2 * i + 1])
      .uniform();
    if (chance < config.validation) store.fates[i] = fate.validation;
  }
}
