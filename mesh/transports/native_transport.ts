/**
 * Data channels over node-datachannel, WebRTC in C++ (libdatachannel): several times faster than werift, and it enforces
 * that a certificate's owner holds its key. For Deno only, and only where it is asked for: native code may do whatever
 * the process may, and its library is loaded with the first connection.
 *
 * Permissions: `--allow-ffi --allow-read --allow-env --allow-sys`. At most one thread of a process may use it: two end the process.
 *
 * What 0.33.4 leaves to its user: a receiver holds without bound what its reader does not take (so this one hands on at
 * once, and links count credit), and a peer that is gone shows after a quarter of a minute (so links look for signs of
 * life).
 *
 * @module
 */
import type { PeerConnection } from "node-datachannel";
import { LinkError } from "../errors.ts";
import { type IceServers, needsTurn, stunText } from "./ice_servers.ts";
import { limits } from "../limits.ts";
import {
  awaitDescription,
  candidateText,
  MID,
  readDescription,
  sessionDescription,
} from "./peer_description.ts";
import { NativeChannel } from "./native_channel.ts";
import { openPeer } from "./peer_opening.ts";
import type { Channel, ChannelBinding, Clock, Signal, Transport } from "../runtime.ts";

/** What a {@linkcode nativeTransport} is given. */
export interface NativeOptions {
  readonly clock: Clock;
  /** Use 127.0.0.1, or the address of this machine that is named, and nothing else: for workers on one machine. */
  readonly loopback?: boolean | string;
  /** Servers that help to reach the peer; TURN over UDP only. */
  readonly servers?: () => IceServers;
}

/** Bytes that one connection keeps under way (the library's buffers), and that a link should carry in a millisecond. */
const CONNECTION_BYTES = 1 << 20, WANTED_BYTES = 25_000;

/**
 * Until the answering end sends first packets of its own, ms. While a description is being set, the library's own thread
 * already answers whoever knows the connection's password, and judges certificates by a description that is not there yet:
 * on a busy machine an answerer that is quicker than that is refused. So the offering end, which must have the answer to
 * send anything, begins; on roads on which nothing comes in before something went out, the other one follows.
 */
const ANSWERER_WAITS_MS = 250;

/** The library, once it is loaded. */
let library: Promise<typeof import("node-datachannel")> | undefined;

async function load(): Promise<typeof import("node-datachannel")> {
  try {
    const loaded = await import("node-datachannel");
    // Its threads must have ended when the process does, or they bring it down.
    globalThis.addEventListener("unload", () => loaded.cleanup());
    return loaded;
  } catch (error) {
    throw new LinkError(
      `Cannot load the native transport (${error instanceof Error ? error.message : error}). It needs ` +
        `the permission --allow-ffi, which \`deno task volary:native\` grants, and a platform that ` +
        `node-datachannel is built for; \`--transport werift\` needs neither.`,
    );
  }
}

/** A transport over node-datachannel. */
export function nativeTransport(options: NativeOptions): Transport {
  return {
    kind: "webrtc (native)",
    open: (signal, initiator) => open(options, signal, initiator),
    paths: (roundTrip) => roundTrip * WANTED_BYTES / CONNECTION_BYTES,
  };
}

async function open(
  { clock, loopback, servers: named }: NativeOptions,
  signal: Signal,
  initiator: boolean,
): Promise<Channel> {
  const { PeerConnection } = await (library ??= load());
  const servers = named?.() ?? {}, { turn, relayOnly } = servers, stun = stunText(servers);
  needsTurn(servers);
  if (turn !== undefined && turn.transport !== "udp") {
    throw new LinkError(
      "The native transport reaches TURN servers over UDP only: join with --transport werift.",
    );
  }
  const connection = new PeerConnection("volary", {
    iceServers: [
      ...stun === undefined ? [] : [stun],
      ...turn === undefined ? [] : [{
        hostname: turn.host,
        port: turn.port,
        username: turn.username,
        password: turn.password,
        relayType: "TurnUdp" as const,
      }],
    ],
    iceTransportPolicy: relayOnly ? "relay" : "all",
    maxMessageSize: limits.channelBytes,
    disableAutoNegotiation: true,
    ...(loopback ? { bindAddress: loopback === true ? "127.0.0.1" : loopback } : {}),
  });
  const channel = new NativeChannel(connection);
  const certificates = await openPeer(clock, channel, signal, () => {
    const remote = awaitDescription(signal, initiator ? "answer" : "offer");
    return negotiate({ connection, channel, clock }, signal, initiator, remote);
  });
  channel.binding = { certificates, proven: true };
  return channel;
}

/** Exchanges descriptions; the initiator offers. Answers with the certificates that they name. */
async function negotiate(
  { connection, channel, clock }: { connection: PeerConnection; channel: NativeChannel; clock: Clock },
  signal: Signal,
  initiator: boolean,
  remote: ReturnType<typeof awaitDescription>,
): Promise<NonNullable<ChannelBinding["certificates"]>> {
  if (!initiator) {
    // The candidates follow, see ANSWERER_WAITS_MS.
    const offer = await remote;
    connection.setRemoteDescription(sessionDescription({ ...offer, candidates: [] }), offer.role);
  }
  channel.attach();
  const role = initiator ? "offer" : "answer", gathered = Promise.withResolvers<void>();
  connection.onGatheringStateChange((state) => state === "complete" && gathered.resolve());
  connection.setLocalDescription(role);
  await gathered.promise;
  const own = readDescription(connection.localDescription()?.sdp ?? "", role);
  if (own.candidates.length === 0) {
    throw new LinkError("Cannot connect to the peer: this machine has no network address to offer");
  }
  signal.send(own);
  const peer = await remote;
  if (initiator) {
    connection.setRemoteDescription(sessionDescription(peer), peer.role);
  } else {
    const timer = clock.timer(ANSWERER_WAITS_MS, () => {
      peer.candidates.forEach((each, i) => connection.addRemoteCandidate(candidateText(each, i), MID));
    });
    Promise.race([channel.opened, channel.closed]).then(() => timer.cancel());
  }
  return { own: own.fingerprint, peer: peer.fingerprint };
}
