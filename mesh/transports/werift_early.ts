/**
 * Meeting a peer that names no address: browsers hide theirs behind names that only their own network resolves.
 *
 * Such a peer is found by its own checks, which come to the addresses that this end named. werift 0.25.2 takes them as
 * they come, but gives up at once where none has come yet when it begins: so an end that answers always did, and one that
 * offers did where the answer was quicker than the first check.
 *
 * @module
 */
import type { RTCPeerConnection } from "werift";
import type { Clock } from "../runtime.ts";

/** What is reached inside werift. */
interface Ice {
  readonly remoteCandidates: readonly unknown[];
  /** Checks that came before `connect` was called. */
  readonly earlyChecks: readonly unknown[];
  readonly state: string;
  connect(): Promise<void>;
}

/** Between two looks whether a check has come. */
const LOOK_MS = 10;

/** Has a connection without addresses of its peer begin with the peer's first check, or end when it is closed. */
export function awaitChecks(connection: RTCPeerConnection, clock: Clock): void {
  for (const transport of connection.iceTransports) {
    const ice = transport.connection as unknown as Ice, connect = ice.connect.bind(ice);
    ice.connect = async () => {
      while (ice.remoteCandidates.length === 0 && ice.earlyChecks.length === 0 && ice.state !== "closed") {
        await new Promise<void>((resolve) => clock.timer(LOOK_MS, resolve));
      }
      await connect();
    };
  }
}
