/**
 * The orderly end of a link. Each end says bye behind its last frame and hears that it has come; then both directions are
 * done, which the end with the smaller id tells the other one, and that one closes the channels.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { KIND } from "./link_wire.ts";

/** What an end of a link knows and does about its end. */
export class Farewell {
  /** Nothing more is taken to send. */
  closing = false;
  /** The other end's last frame has come. */
  heard = false;
  #said = false;
  #acknowledged = false;
  #told = false;
  #finished = false;

  /** `first`: this end's id is the smaller one. `say` sends a message of one kind; `over` closes the channels. */
  constructor(
    private readonly first: boolean,
    private readonly say: (kind: number) => void,
    private readonly over: () => void,
  ) {}

  /** Both directions are done and each end knows it. */
  get complete(): boolean {
    return this.heard && this.#acknowledged;
  }

  /** All is done, and the other end was told so. */
  get told(): boolean {
    return this.#told && this.complete;
  }

  /** The last frame has left. */
  lastLeft(): void {
    if (!this.closing || this.#said) return;
    this.#said = true;
    this.say(KIND.bye);
  }

  /**
   * Takes in a bye, its acknowledgement or a fin. `busy`: a frame of the other end is not complete. `rest` sends what is left
   * here. Throws `LinkError` for words that are out of place.
   */
  receive(kind: number, busy: boolean, rest: () => void): void {
    switch (kind) {
      case KIND.bye:
        if (this.heard || busy) throw new LinkError("The peer says bye in the middle of a frame or twice");
        this.heard = this.closing = true;
        this.say(KIND.byeAck);
        rest();
        break;
      case KIND.byeAck:
        if (!this.#said) throw new LinkError("The peer answers a bye that was not said");
        this.#acknowledged = true;
        break;
      default:
        this.#finished = true;
    }
    if (!this.complete) return;
    if (!this.first) {
      if (this.#finished) this.over();
      return;
    }
    if (!this.#told) this.say(KIND.fin);
    this.#told = true;
  }
}
