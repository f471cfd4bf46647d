/**
 * Names and passwords for a TURN server that end by themselves. The server and the coordinator share a secret; a name is the
 * time at which it ends, in seconds since 1970, and whose it is; its password is the secret's mark on that:
 * base64(HMAC-SHA1(secret, name)). This is coturn's `use-auth-secret` (draft-uberti-behave-turn-rest-00, 2.2).
 *
 * @module
 */
import { type TurnAddress, turnText } from "../../mesh/transports/ice_servers.ts";
import { limits } from "../../mesh/limits.ts";
import type { Turn } from "../../mesh/control/messages.ts";
import { outside } from "../../mesh/outside_work.ts";
import type { Clock } from "../../mesh/runtime.ts";

/** See the module's description. The secret stays in here. */
export class TurnGrants {
  readonly #key: Promise<CryptoKey>;

  constructor(
    private readonly server: TurnAddress,
    secret: string,
    private readonly clock: Pick<Clock, "wall">,
  ) {
    const bytes = new TextEncoder().encode(secret), algorithm = { name: "HMAC", hash: "SHA-1" };
    this.#key = crypto.subtle.importKey("raw", bytes, algorithm, false, ["sign"]);
  }

  /** What `worker` may be known by there, from now on for `limits.turnMs`. */
  async grant(worker: string): Promise<Turn> {
    const username = `${Math.floor((this.clock.wall() + limits.turnMs) / 1_000)}:${worker}`;
    const mark = await outside(this.#sign(new TextEncoder().encode(username)));
    return {
      url: turnText(this.server),
      username,
      password: btoa(String.fromCharCode(...new Uint8Array(mark))),
    };
  }

  async #sign(words: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> {
    return await crypto.subtle.sign("HMAC", await this.#key, words);
  }
}
