/**
 * Data channels over the platform's own RTCPeerConnection, for browsers. It says and accepts the same typed values as
 * the werift transport, so that either can be at the other end.
 *
 * Browsers hide their own addresses behind names; those are not sent. The other end learns the address from the first
 * packet, so at least one of two ends must offer an address that the other can reach.
 *
 * @module
 */
import { LinkError } from "../errors.ts";
import { type IceServers, needsTurn, stunText, turnText } from "./ice_servers.ts";
import { limits } from "../limits.ts";
import { awaitDescription, readDescription, sessionDescription } from "./peer_description.ts";
import { openPeer } from "./peer_opening.ts";
import { RtcChannel } from "./rtc_channel.ts";
import type { Channel, ChannelBinding, Clock, Signal, Transport } from "../runtime.ts";

/** The part of the platform's data channel that is used. */
interface PlatformChannel extends EventTarget {
  binaryType: string;
  readonly readyState: string;
  readonly bufferedAmount: number;
  bufferedAmountLowThreshold: number;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

interface Description {
  readonly type: "offer" | "answer";
  readonly sdp?: string;
}

/** The part of the platform's RTCPeerConnection that is used. */
export interface PlatformConnection extends EventTarget {
  readonly connectionState: string;
  readonly iceGatheringState: string;
  readonly localDescription: Description | null;
  createDataChannel(
    label: string,
    options: { negotiated: boolean; id: number; ordered: boolean },
  ): PlatformChannel;
  createOffer(): Promise<Description>;
  createAnswer(): Promise<Description>;
  setLocalDescription(description: Description): Promise<void>;
  setRemoteDescription(description: Description): Promise<void>;
  close(): void;
}

/** What a {@linkcode browserTransport} is given. */
export interface BrowserTransportOptions {
  readonly clock: Clock;
  /** Servers that help to reach a peer, now. */
  readonly servers?: () => IceServers;
  /** Makes a connection; the platform's where absent. */
  readonly connection?: (servers: IceServers) => PlatformConnection;
}

/** How long gathering own addresses may take, in ms; what was found by then is sent. */
const GATHERING_MS = 1_000;

/** The platform's connection. Throws `LinkError` where the platform has none. */
function platformConnection(servers: IceServers): PlatformConnection {
  const { turn, relayOnly } = servers, stun = stunText(servers);
  const Connection = (globalThis as unknown as {
    RTCPeerConnection?: new (options: object) => PlatformConnection;
  }).RTCPeerConnection;
  if (Connection === undefined) throw new LinkError("Cannot connect to a peer: this browser has no WebRTC");
  return new Connection({
    iceServers: [
      ...stun === undefined ? [] : [{ urls: stun }],
      ...turn === undefined
        ? []
        : [{ urls: turnText(turn), username: turn.username, credential: turn.password }],
    ],
    iceTransportPolicy: relayOnly ? "relay" : "all",
  });
}

/** A transport over the platform's RTCPeerConnection. */
export function browserTransport(
  { clock, servers: named, connection = platformConnection }: BrowserTransportOptions,
): Transport {
  return {
    kind: "webrtc (browser)",
    async open(signal, initiator) {
      const servers = named?.() ?? {};
      needsTurn(servers);
      return await open(clock, connection(servers), signal, initiator);
    },
  };
}

async function open(
  clock: Clock,
  connection: PlatformConnection,
  signal: Signal,
  initiator: boolean,
): Promise<Channel> {
  const channel = new BrowserChannel(connection);
  const certificates = await openPeer(
    clock,
    channel,
    signal,
    () => negotiate(clock, connection, signal, initiator),
  );
  channel.binding = { certificates, proven: true };
  return channel;
}

/** Exchanges descriptions; the initiator offers. Answers with the certificates that they name. */
async function negotiate(
  clock: Clock,
  connection: PlatformConnection,
  signal: Signal,
  initiator: boolean,
): Promise<NonNullable<ChannelBinding["certificates"]>> {
  const remote = awaitDescription(signal, initiator ? "answer" : "offer");
  const setRemote = async () => {
    const peer = await remote;
    await connection.setRemoteDescription({ type: peer.role, sdp: sessionDescription(peer) });
  };
  if (!initiator) await setRemote();
  await connection.setLocalDescription(
    initiator ? await connection.createOffer() : await connection.createAnswer(),
  );
  await gathered(clock, connection);
  const own = readDescription(connection.localDescription?.sdp ?? "", initiator ? "offer" : "answer");
  signal.send(own);
  if (initiator) await setRemote();
  return { own: own.fingerprint, peer: (await remote).fingerprint };
}

/** Resolves when all own addresses are known, or time is up. */
function gathered(clock: Clock, connection: PlatformConnection): Promise<void> {
  if (connection.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const timer = clock.timer(GATHERING_MS, resolve);
    connection.addEventListener("icegatheringstatechange", () => {
      if (connection.iceGatheringState !== "complete") return;
      timer.cancel();
      resolve();
    });
  });
}

/** One data channel of the platform as a `Channel`. */
class BrowserChannel extends RtcChannel {
  readonly kind = "webrtc (browser)";
  /** Browsers show no keying material, but the other end must prove that its certificate is its own. Set when open. */
  binding!: ChannelBinding;
  readonly #channel: PlatformChannel;

  constructor(private readonly connection: PlatformConnection) {
    super();
    // Both ends know the channel beforehand, so that nobody can open others.
    const channel = this.#channel = connection.createDataChannel("volary", {
      negotiated: true,
      id: 0,
      ordered: true,
    });
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = limits.lowWaterBytes;
    channel.addEventListener("open", () => this.open());
    channel.addEventListener("message", (event) => {
      const { data } = event as MessageEvent;
      if (data instanceof ArrayBuffer) this.deliver(new Uint8Array(data));
      else this.close("the peer sent text where only bytes are spoken");
    });
    channel.addEventListener("bufferedamountlow", () => this.drain());
    channel.addEventListener("close", () => this.close("the peer closed the connection"));
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "failed") this.close("the network path to the peer is lost");
    });
  }

  protected override held(): number {
    return this.#channel.bufferedAmount;
  }

  protected override transmit(message: Uint8Array<ArrayBuffer>): void {
    this.#channel.send(message);
  }

  protected override expect(bytes: number): void {
    this.#channel.bufferedAmountLowThreshold = bytes;
  }

  protected override shut(done: () => void): void {
    this.#channel.close();
    this.connection.close();
    done();
  }
}
