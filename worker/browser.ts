/**
 * A worker in a browser's tab: WebSocket to the coordinator, RTCPeerConnection between workers, the device on a thread of
 * its own. Bundle this file and `compute_thread.ts`, and hand in where the latter lies.
 *
 * @module
 */
import { browserTransport } from "../mesh/transports/browser_transport.ts";
import type { TurnServer } from "../mesh/transports/ice_servers.ts";
import { type Identity, newIdentity } from "../mesh/identity/identity.ts";
import type { Clock, Transport } from "../mesh/runtime.ts";
import { openComputeThread, startThread } from "./compute_client.ts";
import { join, type JoinOptions } from "./join.ts";
import type { DeviceChoice } from "./thread_protocol.ts";
import type { RunningWorker } from "./worker.ts";

export type { WorkerEvent } from "./events.ts";
export type { RunningWorker } from "./worker.ts";

/** What a page may choose when joining. */
export interface BrowserJoinOptions extends JoinOptions {
  /** Default "auto": the WebGPU adapter where there is one, plain arrays otherwise. */
  readonly device?: DeviceChoice;
  /** Where the bundled compute_thread.ts lies; default: beside this program, under its own name. */
  readonly thread?: URL;
  /** Default: the browser's own WebRTC, with no server but the coordinator's TURN server. */
  readonly transport?: Transport;
  /** Who this worker is; default: a key of this page's own, gone with it. */
  readonly identity?: Identity;
}

/** Time as a page has it. */
const clock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  timer(ms, fire) {
    const id = setTimeout(fire, ms);
    return { cancel: () => clearTimeout(id) };
  },
};

/** Joins the mesh of an invite from this page. Throws what `join` in join.ts throws. */
export async function joinMesh(
  { device = "auto", thread, transport, identity, ...options }: BrowserJoinOptions,
): Promise<RunningWorker> {
  let granted: TurnServer | undefined;
  return await join(options, {
    clock,
    chance: { random: (count) => crypto.getRandomValues(new Uint8Array(count)) },
    identity: identity ?? await newIdentity(),
    transport: () => transport ?? browserTransport({ clock, servers: () => ({ turn: granted }) }),
    onturn: (server) => granted = server,
    socket: (url) => new WebSocket(url),
    compute: (exchanger) =>
      openComputeThread(
        { device, memory: options.memory, share: options.lent?.share },
        exchanger,
        startThread(thread),
      ),
    software: "volary (browser)",
  });
}
