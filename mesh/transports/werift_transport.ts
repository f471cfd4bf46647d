/**
 * Data channels over werift, WebRTC in TypeScript. For Deno only: it needs UDP sockets and Node's Buffer.
 *
 * Permissions: `--allow-env --allow-sys=networkInterfaces --allow-net`.
 *
 * werift 0.25.2 leaves to its user what this file adds: no packet to a public STUN server, only values (no session
 * text) from a peer, a filter for datagrams that are not the peer's, bounds on what a peer can have held, and a
 * watch over promises that werift does not await. It does not prove who the peer is.
 *
 * @module
 */
import { Socket } from "node:dgram";
import type { RTCPeerConnection } from "werift";
import { LinkError } from "../errors.ts";
import { type IceServers, needsTurn, stunText, turnText } from "./ice_servers.ts";
import { limits } from "../limits.ts";
import { keepOrder } from "./orderly_socket.ts";
import { awaitDescription, PeerDescription, sessionDescription } from "./peer_description.ts";
import { openPeer } from "./peer_opening.ts";
import type { Channel, Clock, Signal, Transport } from "../runtime.ts";
import { WeriftChannel } from "./werift_channel.ts";
import { awaitChecks } from "./werift_early.ts";

/** What a {@linkcode weriftTransport} is given. */
export interface WeriftOptions {
  readonly clock: Clock;
  /** Also offer 127.0.0.1, or the address of this machine that is named: for workers on one machine. */
  readonly loopback?: boolean | string;
  /** Servers that help to reach a peer, now. Without any, no packet leaves for an address that is not the peer's. */
  readonly servers?: () => IceServers;
}

/** Bytes that one connection carries in a round trip, measured, and that a process can handle in a millisecond. */
const CONNECTION_BYTES = 64 << 10, PROCESS_BYTES = 16_000;

/** The library, once it is asked for: a worker without peers starts sooner without it. */
let library: Promise<typeof import("werift")> | undefined;

/** Loads the library ahead of the first connection, which otherwise does. */
export function loadWerift(): Promise<unknown> {
  return library ??= import("werift");
}

/** A transport over werift. */
export function weriftTransport(options: WeriftOptions): Transport {
  return {
    kind: "webrtc (werift)",
    open: (signal, initiator) => open(options, signal, initiator),
    paths: (roundTrip) => roundTrip * PROCESS_BYTES / CONNECTION_BYTES,
  };
}

async function open(
  { clock, loopback, servers: named }: WeriftOptions,
  signal: Signal,
  initiator: boolean,
): Promise<Channel> {
  const servers = named?.() ?? {};
  needsTurn(servers);
  const { RTCPeerConnection } = await (library ??= import("werift"));
  const connection = new RTCPeerConnection({
    ...iceOptions(servers),
    iceAdditionalHostAddresses: loopback ? [loopback === true ? "127.0.0.1" : loopback] : [],
    maxMessageSize: limits.channelBytes,
  });
  const channel = new WeriftChannel(connection, clock);
  await openPeer(clock, channel, signal, () => {
    const remote = awaitDescription(signal, initiator ? "answer" : "offer");
    return negotiate(connection, channel, signal, initiator, remote, servers, clock);
  });
  return channel;
}

/** Exchanges descriptions; the initiator offers. */
async function negotiate(
  connection: RTCPeerConnection,
  channel: WeriftChannel,
  signal: Signal,
  initiator: boolean,
  remote: Promise<PeerDescription>,
  servers: IceServers,
  clock: Clock,
): Promise<void> {
  const setRemote = async () => {
    const peer = await remote;
    await connection.setRemoteDescription({ type: peer.role, sdp: sessionDescription(peer) });
  };
  if (!initiator) await setRemote();
  channel.attach();
  awaitChecks(connection, clock);
  // Without a server of ours werift asks a public one; an undefined address is the way to have it ask none.
  if (stunText(servers) === undefined) {
    for (const transport of connection.iceTransports) {
      (transport.connection as { stunServer: unknown }).stunServer = undefined;
    }
  }
  await connection.setLocalDescription(
    initiator ? await connection.createOffer() : await connection.createAnswer(),
  );
  fitSockets(connection);
  signal.send(describe(connection, initiator ? "offer" : "answer", servers));
  if (initiator) await setRemote();
}

/** A server's options; werift says nothing about one that refuses, which shows when there is no address to offer. */
function iceOptions(servers: IceServers) {
  const { turn, relayOnly } = servers, stun = stunText(servers);
  const asked = stun === undefined ? [] : [{ urls: stun }];
  if (turn === undefined) return { iceServers: asked };
  return {
    iceServers: [...asked, { urls: turnText(turn), username: turn.username, credential: turn.password }],
    iceTransportPolicy: relayOnly ? "relay" as const : "all" as const,
    iceTurnConnectTimeout: limits.stalledMs / 1_000,
  };
}

/** What is reached inside werift for its sockets. */
interface Sockets {
  readonly protocols: readonly { readonly transport?: { readonly socket?: unknown } }[];
}

/**
 * Keeps the order of the connection's datagrams, and tells its sockets how large one can be. Deno makes a new cleared array
 * of "the receive buffer's size" (64 KiB, and twice what is asked for here) for each datagram that arrives, and leaves the
 * system's own buffer alone; Node would change that one instead, so this is for Deno only, as this whole file is.
 */
function fitSockets(connection: RTCPeerConnection): void {
  for (const { connection: ice } of connection.iceTransports) {
    for (const { transport } of (ice as unknown as Sockets).protocols) {
      const socket = transport?.socket;
      if (!(socket instanceof Socket)) continue; // TURN over TCP
      socket.setRecvBufferSize(limits.datagramBytes / 2);
      keepOrder(socket);
    }
  }
}

/** This end's values, once its candidates are gathered. */
function describe(
  connection: RTCPeerConnection,
  role: PeerDescription["role"],
  { turn, relayOnly }: IceServers,
): PeerDescription {
  const ice = connection.iceTransports[0], { usernameFragment, password } = ice.localParameters;
  const fingerprint = connection.dtlsTransports[0].localParameters.fingerprints
    .find(({ algorithm }) => algorithm.toLowerCase() === "sha-256");
  const candidates = ice.localCandidates
    // Where only the relay may be used, werift gathers others all the same if the relay gives none.
    .filter(({ protocol, type }) => protocol.toLowerCase() === "udp" && (!relayOnly || type === "relay"))
    .slice(0, limits.candidates)
    .map(({ ip, port, priority, type }) => ({ address: ip, port, priority, type }));
  const parsed = PeerDescription.safeParse({
    role,
    ufrag: usernameFragment,
    pwd: password,
    fingerprint: fingerprint?.value.toUpperCase(),
    candidates,
  });
  if (!parsed.success) {
    throw new LinkError("Cannot describe this end of a connection: werift gave unusual values");
  }
  if (candidates.length === 0 && turn !== undefined) {
    throw new LinkError(
      `Cannot connect to the peer: ${turnText(turn)} gave no address (refused, or out of reach; ` +
        `\`volary doctor\` with the same --turn says which)`,
    );
  }
  if (candidates.length === 0) {
    throw new LinkError("Cannot connect to the peer: this machine has no network address to offer");
  }
  return parsed.data;
}
