/**
 * What a run leaves behind beside its checkpoints: every event as a line of JSON, scalars for TensorBoard, and at the end
 * the report.
 *
 * @module
 */
import { basename } from "@std/path";
import { joinPath } from "../../model/files.ts";
import type { Runtime } from "../../mesh/runtime.ts";
import { EventFile } from "../report/event_file.ts";
import type { RunEvent } from "../events.ts";
import type { Journal } from "./journal.ts";
import type { Recipe } from "../recipe/recipe.ts";
import { tokensBefore } from "../recipe/run_text.ts";
import { writeReport } from "../report/report_files.ts";
import { stepsBefore } from "./run_phase.ts";

/** See the module's description. */
export class RunRecord {
  readonly #events: EventFile;
  constructor(
    private readonly runtime: Runtime,
    private readonly journal: Journal,
    private readonly recipe: Recipe,
  ) {
    const folder = joinPath(journal.folder, "tensorboard");
    this.#events = new EventFile(runtime.storage, folder, runtime.wall() / 1000);
  }

  /** Takes an event down, in order of the calls. */
  add(event: RunEvent): void {
    this.journal.append(event);
    if (event.event === "tasks") {
      const { phase, file, scores: { relative, total } } = event, name = `tasks/${basename(file)}`;
      this.#events.add(this.runtime.wall() / 1000, stepsBefore(this.recipe, phase), [
        [`${name}/accuracy_by_loss`, total.accuracy],
        [`${name}/accuracy_by_loss_less_that_without_prompt`, relative.accuracy],
      ]);
      return;
    }
    if (event.event !== "step" && event.event !== "evaluation") return;
    const step = stepsBefore(this.recipe, event.phase) + event.step;
    const scalars: [string, number | null][] = event.event === "evaluation"
      ? [["validation/nll", event.nll], ["validation/bits_per_byte", event.bitsPerByte]]
      : [
        ["train/loss", event.loss],
        ["train/cross_entropy", event.ce],
        ["train/gradient_norm", event.norm],
        ["train/learning_rate", event.learningRate],
        ["train/tokens_per_second", event.tokensPerSecond],
        ["train/tokens", this.#tokens(event.phase, event.step)],
        ...(event.load
          ? [
            ["router/balance", event.balance],
            ["router/z", event.z],
            ["router/busiest_expert", event.load.most],
            ["router/idlest_expert", event.load.least],
          ] as [string, number | null][]
          : []),
      ];
    this.#events.add(this.runtime.wall() / 1000, step, scalars);
  }

  /** Tokens of training up to a step. */
  #tokens(index: number, step: number): number {
    const { phases } = this.recipe, phase = phases[index];
    const own = phase.kind === "train" ? step * phase.batch * phase.sequence : 0;
    return tokensBefore(phases, index) + own;
  }

  /** Writes the report once everything else is on its way to the disk. */
  async end(): Promise<void> {
    await Promise.all([this.journal.settled(), this.#events.settled()]);
    await writeReport(this.runtime.storage, this.journal.folder);
  }
}
