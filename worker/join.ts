/**
 * From an invite to a running worker. The entries for Deno and for browsers say how to reach the network and a device.
 *
 * @module
 */
import { control } from "../mesh/control.ts";
import { LinkError } from "../mesh/errors.ts";
import { parseInvite } from "../mesh/invite.ts";
import { FromCoordinator, type FromWorker } from "../mesh/messages.ts";
import type { Clock, Transport } from "../mesh/runtime.ts";
import { webSocketChannel } from "../mesh/websocket_channel.ts";
import type { Compute, Exchanger } from "./compute.ts";
import type { WorkerEvent } from "./events.ts";
import { type RunningWorker, startWorker } from "./worker.ts";

/** What a person may choose when joining. */
export interface JoinOptions {
  /** The line that `volary up` printed. */
  readonly invite: string;
  /** Unique among the workers of a mesh: letters, digits, '.', '_' and '-'. */
  readonly name: string;
  /** Bytes of the device that the mesh may use; absent: what the device offers. */
  readonly memory?: number;
  readonly onevent?: (event: WorkerEvent) => void;
}

/** How this kind of process reaches the outside. */
export interface Surroundings {
  readonly clock: Clock;
  /** Opens data channels; `local` says that the coordinator runs on this machine. */
  readonly transport: (local: boolean) => Transport;
  readonly socket: (url: string) => WebSocket;
  readonly compute: (exchanger: Exchanger) => Promise<Compute>;
  /** Name and version of this program, for people. */
  readonly software: string;
}

/** Where a coordinator lets workers in, whatever stands in the invite's path. */
const DOOR = "/mesh";

/**
 * Connects to the coordinator of an invite and starts a worker there. Throws `InviteError` for an invite that cannot be
 * read and `LinkError` where nobody answers; see {@linkcode RunningWorker} for what may go wrong later.
 */
export async function join(options: JoinOptions, around: Surroundings): Promise<RunningWorker> {
  const { invite, name, memory, onevent } = options, { clock, transport, socket, compute, software } = around;
  const { address, secret } = parseInvite(invite, clock.wall());
  const url = new URL(DOOR, address);
  let channel;
  try {
    channel = await webSocketChannel(socket(url.href), clock);
  } catch (error) {
    throw new LinkError(
      `Cannot reach the coordinator at ${url.host}: ${
        (error as Error).message
      }. Is \`volary up\` running there, and may ` +
        "this machine connect to that address?",
    );
  }
  const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  return startWorker({
    clock,
    transport: transport(local),
    control: control<typeof FromCoordinator, FromWorker>(channel, FromCoordinator, clock),
    compute,
    name,
    secret,
    software,
    memory,
    onevent,
  });
}
