/**
 * Credentials of workers whose coordinator is the program itself: for links inside one machine that are only tried out.
 *
 * @module
 */
import type { Credentials } from "./handshake.ts";
import { delegate, type Identity, newIdentity } from "../identity/identity.ts";
import type { Chance } from "../runtime.ts";

/**
 * What each of `workers` shows the others in `run`, by a coordinator's key made for this and gone with it (hence good for
 * ever); processes that try out a link between them hand in the same one.
 */
export async function localCredentials<W extends string>(
  chance: Chance,
  run: string,
  workers: readonly W[],
  coordinator?: Identity,
): Promise<Record<W, Credentials>> {
  const signer = coordinator ?? await newIdentity(), credentials: Partial<Record<W, Credentials>> = {};
  for (const worker of workers) {
    const identity = await newIdentity(), { publicKey } = identity;
    const delegation = await delegate(signer, { run, worker, publicKey }, 0, Number.MAX_SAFE_INTEGER);
    credentials[worker] = {
      identity,
      coordinator: signer.publicKey,
      delegation: () => delegation,
      chance,
    };
  }
  return credentials as Record<W, Credentials>;
}
