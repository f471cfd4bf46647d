/**
 * From an invite to a running worker. The entries for Deno and for browsers say how to reach the network and a device.
 *
 * @module
 */
import { control } from "../mesh/control/control.ts";
import { LinkError } from "../mesh/errors.ts";
import { applyToCoordinator } from "../mesh/control/handshake_control.ts";
import type { TurnServer } from "../mesh/transports/ice_servers.ts";
import type { Identity } from "../mesh/identity/identity.ts";
import { type Invite, parseInvite } from "../mesh/identity/invite.ts";
import { FromCoordinator, type FromWorker, type Lent } from "../mesh/control/messages.ts";
import type { Chance, Channel, Clock, Transport } from "../mesh/runtime.ts";
import type { Zstd } from "../mesh/tensors/tensor_codec.ts";
import { webSocketChannel } from "../mesh/transports/websocket_channel.ts";
import type { Compute, Exchanger } from "./compute.ts";
import { RefusedError } from "./errors.ts";
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
  /** What else of it the mesh may use; absent parts: all. The device itself must keep to the share. */
  readonly lent?: Lent;
  readonly onevent?: (event: WorkerEvent) => void;
}

/** How this kind of process reaches the outside, and who it is. */
export interface Surroundings {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly identity: Identity;
  /** Opens data channels; `local` says that the coordinator runs on this machine. */
  readonly transport: (local: boolean) => Transport;
  /** Takes the TURN server that the coordinator names; absent: none is used. */
  readonly onturn?: (server: TurnServer) => void;
  readonly socket: (url: string) => WebSocket;
  readonly compute: (exchanger: Exchanger) => Promise<Compute>;
  /** Name and version of this program, for people. */
  readonly software: string;
  /** Compression, where the platform has it. */
  readonly zstd?: Zstd;
}

/** Connections to the coordinator before it counts as one that does not answer. */
const TRIES = 3;
/** Where a coordinator lets workers in, whatever stands in the invite's path. */
const DOOR = "/mesh";

/**
 * Connects to the coordinator of an invite and starts a worker there. Throws `InviteError` for an invite that cannot be
 * read, `LinkError` where nobody answers, and what {@linkcode joinOver} throws.
 */
export async function join(options: JoinOptions, around: Surroundings): Promise<RunningWorker> {
  const invite = parseInvite(options.invite), url = door(invite);
  const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  for (let tries = 1;; tries++) {
    const channel = await reach(invite, around);
    try {
      return await joinOver(channel, invite, options, { ...around, transport: around.transport(local) });
    } catch (error) {
      // A coordinator in a flood of strangers shuts some of them, who have shown nothing yet, and us among them.
      if (tries === TRIES || (error as Error).name !== "LinkError") throw error;
    }
  }
}

/** A connection to the coordinator of an invite. Throws `LinkError` that says what to look at. */
export async function reach(
  invite: Invite,
  { clock, socket }: Pick<Surroundings, "clock" | "socket">,
): Promise<Channel> {
  const url = door(invite), { expires } = invite;
  try {
    return await webSocketChannel(socket(url.href), clock);
  } catch (error) {
    const over = expires !== undefined && expires < clock.wall()
      ? ` The invite has also expired (${new Date(expires).toISOString()}).`
      : "";
    throw new LinkError(
      `Cannot reach the coordinator at ${url.host}: ${
        (error as Error).message
      }. Is \`volary up\` running there, and may this ` +
        `machine connect to that address?${over}`,
    );
  }
}

function door({ address }: Invite): URL {
  return new URL(DOOR, address);
}

/**
 * Shows the coordinator at the other end of a fresh channel who this worker is, and starts it once it is admitted. Throws
 * `HandshakeError` where somebody else answers, `ClockError` where the two clocks are far apart, {@linkcode RefusedError} with
 * the coordinator's reason; see {@linkcode RunningWorker} for what may go wrong later.
 */
export async function joinOver(
  channel: Channel,
  invite: Invite,
  { name, memory, lent, onevent }: Omit<JoinOptions, "invite">,
  { clock, chance, identity, transport, compute, software, zstd, onturn }:
    & Omit<Surroundings, "transport" | "socket">
    & {
      readonly transport: Transport;
    },
): Promise<RunningWorker> {
  // The device opens while both ends show who they are.
  let answering: Exchanger | undefined;
  const opening = compute((exchange) => answering!(exchange));
  opening.catch(() => {}); // the worker hears of it
  const shut = () => opening.then((device) => device.close(), () => {});
  let refused: string | undefined;
  try {
    refused = await applyToCoordinator(channel, invite, { clock, chance, identity });
  } catch (error) {
    channel.close("the handshake failed");
    void shut();
    throw error;
  }
  if (refused !== undefined) {
    channel.close("refused");
    void shut();
    throw new RefusedError(refused);
  }
  return startWorker({
    clock,
    chance,
    identity,
    coordinator: invite.coordinator,
    transport,
    control: control<typeof FromCoordinator, FromWorker>(channel, FromCoordinator, clock),
    compute: (exchanger) => {
      answering = exchanger;
      return opening;
    },
    name,
    software,
    memory,
    lent,
    onevent,
    zstd,
    onturn,
  });
}
