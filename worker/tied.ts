/**
 * A tied embedding whose head lives on another worker: the head's gradient goes to the embedding, which owns the weight,
 * and after a committed step the new weight comes back. Both travel in pieces, as vocabularies are large.
 *
 * @module
 */
import type { Operation } from "../mesh/plan.ts";
import { PlanViolationError } from "./errors.ts";
import { type RoundParts, stageOf } from "./round_parts.ts";
import { piecesOf } from "./sizes.ts";

type What = "tied-gradient" | "tied-weight";
/** A transfer of either; `stage` is the own one. */
type Transfer = Extract<Operation, { what: What }>;

/** Both directions, as operations of a round ask for them. */
export class Tied {
  /** `sending` gets each send that was begun. */
  constructor(
    private readonly parts: Omit<RoundParts, "tell" | "decision" | "stepped">,
    private readonly sending: (sent: Promise<void>) => void,
  ) {}

  /** The head's end takes its accumulated gradient of a share and sends it; the embedding's adds what comes to its own. */
  async gradient(operation: Transfer, round: number, share: number): Promise<void> {
    const { compute, sizes } = this.parts;
    if (operation.do === "send") return this.#send(operation, round, share, await compute.takeTiedGradient());
    const words = new Float32Array(sizes.tied.words);
    for await (const { start, piece } of this.#receive(operation, share)) words.set(piece, start);
    await compute.addTiedGradient(words);
  }

  /**
   * The embedding's end sends the weight; the head's end puts it into its copy.
   *
   * @throws {PlanViolationError} Where it has none.
   */
  async weight(operation: Transfer, round: number): Promise<void> {
    const { compute, sizes, held } = this.parts, { name, words } = sizes.tied;
    if (operation.do === "send") {
      return this.#send(operation, round, 0, await compute.get(name, "weight", 0, words));
    }
    const copy = held.find((tensor) => tensor.copy && tensor.name === name);
    if (copy === undefined) {
      throw new PlanViolationError("The plan sends a tied weight to a worker without a copy");
    }
    for await (const { start, piece } of this.#receive(operation, 0)) {
      await compute.put(copy.name, "weight", start, piece);
    }
  }

  /** `microbatch` takes the number of the share, which tells apart the gradients of a round. */
  #send(
    { what, peer }: Transfer,
    round: number,
    microbatch: number,
    words: Float32Array<ArrayBuffer>,
  ): void {
    const { slice, sizes, roads } = this.parts;
    const stage = stageOf(slice, peer);
    piecesOf(sizes.tied.words).forEach(({ start, length }, sequence) => {
      const bytes = new Uint8Array(words.buffer, words.byteOffset + start * 4, length * 4);
      const heading = { what, round, evaluate: false, index: peer, microbatch, sequence };
      this.sending(roads.send(stage.worker, "pipeline", heading, [bytes]));
    });
  }

  async *#receive(
    { what, stage }: Transfer,
    microbatch: number,
  ): AsyncGenerator<{ start: number; piece: Float32Array<ArrayBuffer> }> {
    const { inbox, meter, sizes } = this.parts;
    for (const [sequence, { start }] of piecesOf(sizes.tied.words).entries()) {
      const payload = await meter.waiting(inbox.take({ what, index: stage, microbatch, sequence }));
      yield { start, piece: new Float32Array(payload.buffer) };
    }
  }
}
