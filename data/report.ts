/**
 * What each step of a preparation dropped, with samples.
 *
 * @module
 */
import { limits } from "./limits.ts";

/** The steps in the order in which a document meets them. */
export const steps = [
  ["broken", "lines that could not be read"],
  ["clean", "nothing left after cleaning"],
  ["quality", "checks of quality"],
  ["language", "other languages"],
  ["toxic", "words of the lists"],
  ["exact", "exact duplicates"],
  ["near", "near duplicates"],
  ["leak", "like validation documents"],
] as const;
/** A step's key. */
export type Step = (typeof steps)[number][0];

/** What was dropped for one reason. */
export interface Dropped {
  documents: number;
  bytes: number;
  /** The first few: where each was and how it begins, or what it is like. */
  readonly samples: string[];
}

/** One domain's account. */
export interface DomainReport {
  documents: number;
  bytes: number;
  /** By step, then by reason. */
  readonly dropped: Partial<Record<Step, Record<string, Dropped>>>;
}

/** The file `report.json`: by domain; sizes in documents and in bytes of UTF-8. */
export type PrepareReport = Record<string, DomainReport>;

/** Counts a document of a domain as dropped. */
export function countDropped(
  report: PrepareReport,
  domain: string,
  step: Step,
  reason: string,
  bytes: number,
  sample: () => string,
): void {
  const reasons = report[domain].dropped[step] ??= {};
  const dropped = reasons[reason] ??= { documents: 0, bytes: 0, samples: [] };
  dropped.documents++;
  dropped.bytes += bytes;
  if (dropped.samples.length < limits.samples) dropped.samples.push(sample());
}

/** What one step dropped of a domain. */
export interface StepLoss {
  readonly title: string;
  readonly documents: number;
  readonly bytes: number;
  /** Its reasons with their documents, the most frequent first; "" where the title says it all. */
  readonly detail: string;
}

/** Reasons that are named of a step. */
const mostReasons = 4;

/** What each step dropped, in their order; steps that dropped nothing are left out. */
export function lossesOf(dropped: DomainReport["dropped"]): StepLoss[] {
  return steps.flatMap(([step, title]): StepLoss[] => {
    const reasons = Object.entries(dropped[step] ?? {}).toSorted(([, a], [, b]) => b.documents - a.documents);
    if (reasons.length === 0) return [];
    const named = reasons.slice(0, mostReasons).map(([reason, { documents }]) => `${reason} ${documents}`);
    if (reasons.length > mostReasons) named.push("...");
    return [{
      title,
      documents: reasons.reduce((sum, [, { documents }]) => sum + documents, 0),
      bytes: reasons.reduce((sum, [, { bytes }]) => sum + bytes, 0),
      detail: reasons.length === 1 && reasons[0][0] === title ? "" : named.join(", "),
    }];
  });
}

/** The beginning of a text, on one line. */
export function excerpt(text: string): string {
  const line = text.slice(0, 4 * limits.excerpt).replace(/\s+/g, " ").trim();
  return line.length <= limits.excerpt ? line : `${line.slice(0, limits.excerpt - 3).toWellFormed()}...`;
}

/** The report for people: rows of a table (name, documents, share, bytes) and samples below. */
export function reportRows(report: PrepareReport): string[][] {
  const rows: string[][] = [];
  for (const [domain, { documents, bytes, dropped }] of Object.entries(report)) {
    const row = (name: string, d: number, b: number) =>
      rows.push([name, d.toLocaleString("en-US"), share(d, documents), megabytes(b)]);
    row(domain, documents, bytes);
    let kept = documents, left = bytes;
    for (const loss of lossesOf(dropped)) {
      kept -= loss.documents;
      left -= loss.bytes;
      row(`  - ${loss.title}${loss.detail && ` (${loss.detail})`}`, loss.documents, loss.bytes);
    }
    row("  = kept", kept, left);
  }
  return rows;
}

function share(part: number, all: number): string {
  return all === 0 ? "-" : `${(100 * part / all).toFixed(part > 0 && part < all / 1000 ? 3 : 1)} %`;
}

function megabytes(bytes: number): string {
  return bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
