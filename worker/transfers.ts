/**
 * Activations and gradients on their way between neighbouring stages: over a link where they are on two workers, from hand
 * to hand where they are on one.
 *
 * @module
 */
import type { Operation } from "../mesh/plan.ts";
import type { Between } from "./between.ts";
import { free } from "./buffers.ts";
import type { Round } from "./round_data.ts";
import { type RoundParts, stageOf } from "./round_parts.ts";

/** A transfer of an activation or a gradient. */
type Transfer = Extract<Operation, { peer: number; microbatch: number }>;

/** Both ends, as operations of a round ask for them. */
export class Transfers {
  /** Settles when the last send so far has been begun: frames leave in the listed order. */
  #sending: Promise<unknown> = Promise.resolve();

  /** `between` has what passes made and gets what comes for them; `sending` gets each send, also one whose pass failed. */
  constructor(
    private readonly parts: Pick<RoundParts, "slice" | "inbox" | "roads" | "meter">,
    private readonly between: Between,
    private readonly sending: (sent: Promise<void>) => void,
  ) {}

  /**
   * Sends what is made as soon as it is there, and does not wait for that; or waits for what comes.
   *
   * @throws {PlanViolationError} For a stage that the plan lacks, and for what no operation before has made.
   */
  async run(operation: Transfer, { round, mode }: Round): Promise<void> {
    const { what, stage, peer, microbatch } = operation, { slice, inbox, roads, meter } = this.parts;
    const other = stageOf(slice, peer).worker;
    if (operation.do === "send") {
      const made = this.between.take(`${what} out`, stage, microbatch);
      if (other === slice.self) return this.between.keep(what, peer, microbatch, made);
      const heading = { what, round, evaluate: mode === "evaluate", index: peer, microbatch, sequence: 0 };
      const begun = Promise.all([made, this.#sending]).then(([words]) => {
        const handedOver = roads.send(other, "pipeline", heading, [new Uint8Array(words)]);
        return [handedOver.then(() => free(words))]; // in a list: the next send waits for this one's beginning alone
      });
      this.#sending = begun.catch(() => {}); // a pass that failed is heard of as such
      this.sending(begun.then(([handedOver]) => handedOver, () => {}));
    } else if (other !== slice.self) {
      const payload = await meter.waiting(inbox.take({ what, index: stage, microbatch, sequence: 0 }));
      this.between.keep(what, stage, microbatch, Promise.resolve(payload.buffer));
    }
  }
}
