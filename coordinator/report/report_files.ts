/**
 * Reads a run's events and writes its report: report.html and report.json in the run's folder.
 *
 * @module
 */
import { joinPath, readText, writeAtomic } from "../../model/files.ts";
import type { Storage } from "../../mesh/runtime.ts";
import { JournalError } from "../errors.ts";
import type { RunEvent } from "../events.ts";
import { reportData } from "./report_of_events.ts";
import type { ReportData } from "./report_data.ts";
import { reportPage } from "./report_page.ts";

/** The events of a run's folder. Throws {@linkcode JournalError} where there are none. */
export async function readEvents(storage: Storage, folder: string): Promise<RunEvent[]> {
  const path = joinPath(folder, "metrics.jsonl"), text = await readText(storage, path);
  if (text === undefined) {
    throw new JournalError(
      `There is no run in ${folder}: it has no metrics.jsonl. Give the folder of a run.`,
    );
  }
  const lines = text.split("\n").filter((line) => line !== "");
  return lines.flatMap((line, i) => {
    try {
      return [JSON.parse(line) as RunEvent];
    } catch {
      if (i === lines.length - 1) return []; // the last line of a run that was cut off may be incomplete
      throw new JournalError(`${path}: line ${i + 1} is damaged (it is no JSON). Remove that line.`);
    }
  });
}

/** A run's report, compared with a run from scratch where there is one, and the paths of its files. */
export async function writeReport(
  storage: Storage,
  folder: string,
  against?: string,
): Promise<{ data: ReportData; page: string; json: string }> {
  const baseline = against === undefined ? undefined : reportData(await readEvents(storage, against));
  const data = reportData(await readEvents(storage, folder), baseline);
  const page = joinPath(folder, "report.html"), json = joinPath(folder, "report.json");
  const write = (path: string, text: string) => writeAtomic(storage, path, new TextEncoder().encode(text));
  await write(json, JSON.stringify(data) + "\n");
  await write(page, reportPage(data, baseline));
  return { data, page, json };
}
