/**
 * One werift data channel as a `Channel`, with the guards that werift lacks. For Deno only.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { RTCDataChannel, RTCPeerConnection } from "werift";
import { isApplicationData } from "./datagram.ts";
import { limits } from "../limits.ts";
import { RtcChannel } from "./rtc_channel.ts";
import type { ChannelBinding, Clock } from "../runtime.ts";
import { watchAgreement } from "./werift_binding.ts";
import { type Bursting, sendBursts } from "./werift_burst.ts";
import { type Acknowledging, gatherSacks } from "./werift_sack.ts";
import { watchWindow } from "./werift_window.ts";

/** The payload protocol of binary messages on a data channel (RFC 8831). */
const BINARY = 53;
/** Both ends know the channel beforehand, so that nobody can open others. */
const STREAM = 0;

/** What is reached inside werift; its types call some of it private. */
interface Insides extends Bursting, Acknowledging {
  handleData(packet: Buffer): Promise<void>;
  onReceive: {
    allUnsubscribe(): void;
    subscribe(execute: (stream: number, protocol: number, data: Buffer) => void): unknown;
  };
}

/** A data channel of werift's, which this process reads and guards itself. */
export class WeriftChannel extends RtcChannel {
  readonly kind = "webrtc (werift)";
  private channel: RTCDataChannel | undefined;
  private agreement!: () => ChannelBinding;
  /** Bytes of packets since a message was last complete. */
  private undelivered = 0;

  constructor(private readonly connection: RTCPeerConnection, private readonly clock: Clock) {
    super();
    watch(this);
    connection.connectionStateChange.subscribe((state) => {
      if (state === "failed") this.close("the network path to the peer is lost");
      else if (state === "closed") this.close("the peer closed the connection");
    });
  }

  /** Makes the data channel; the connection's transports exist from then on. */
  attach(): void {
    const channel = this.connection.createDataChannel("volary", {
      negotiated: true,
      id: STREAM,
      ordered: true,
    });
    this.channel = channel;
    this.agreement = watchAgreement(this.connection.dtlsTransports[0]);
    channel.bufferedAmountLowThreshold = limits.lowWaterBytes;
    channel.bufferedAmountLow.subscribe(() => this.drain());
    channel.stateChanged.subscribe((state) => {
      if (state === "open") {
        this.filterDatagrams();
        this.open();
      } else if (state === "closed") {
        this.close("the peer closed the connection");
      }
    });
    this.guard();
  }

  protected override held(): number {
    return this.channel?.bufferedAmount ?? 0;
  }

  protected override transmit(message: Uint8Array<ArrayBuffer>): void {
    this.channel!.send(Buffer.from(message.buffer, message.byteOffset, message.length));
  }

  protected override expect(bytes: number): void {
    this.channel!.bufferedAmountLowThreshold = bytes;
  }

  protected override shut(done: () => void): void {
    unwatch(this);
    // Sockets are free once the connection has closed; a fault on the way changes nothing for the caller.
    this.connection.close().catch(() => {}).then(done);
  }

  get binding(): ChannelBinding {
    return this.agreement();
  }

  /** False when the association is not one that still works. */
  get healthy(): boolean {
    return this.connection.dtlsTransports.every(({ state }) => state !== "failed" && state !== "closed");
  }

  /** Takes packets and messages from werift's own handlers, whose failures nobody would see. */
  private guard(): void {
    const { sctp, dtlsTransport } = this.connection.sctpTransport!;
    const insides = sctp as unknown as Insides;
    watchWindow(sctp);
    dtlsTransport.dataReceiver = (packet) => {
      this.undelivered += packet.length;
      if (this.undelivered > limits.undeliveredBytes) {
        return this.close("the peer sends without ever completing a message");
      }
      insides.handleData(packet).catch(() => this.close("the peer sent a packet that is not valid"));
    };
    sendBursts(insides);
    this.closed.then(gatherSacks(insides, this.clock));
    insides.onReceive.allUnsubscribe();
    insides.onReceive.subscribe((stream, protocol, data) => {
      this.undelivered = 0;
      if (stream !== STREAM || protocol !== BINARY) {
        return this.close("the peer sent on a channel that does not exist");
      }
      // A view: whoever keeps it copies it. Never one of shared memory, as werift reads from sockets.
      this.deliver(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.length), true);
    });
  }

  /**
   * From now on only encrypted application data gets through to DTLS: a handshake or alert record, which anyone can
   * forge, would close the connection. Both ends are past their handshake when a channel opens.
   */
  private filterDatagrams(): void {
    const event = this.connection.iceTransports[0].connection.onData, execute = event.execute;
    event.execute = (datagram: Buffer) => {
      if (isApplicationData(datagram)) execute(datagram);
    };
  }
}

/** Channels whose werift may reject a promise that nobody awaits; the listener exists while there are any. */
const watched = new Set<WeriftChannel>();

function watch(channel: WeriftChannel): void {
  if (watched.size === 0) globalThis.addEventListener("unhandledrejection", rejected);
  watched.add(channel);
}

function unwatch(channel: WeriftChannel): void {
  watched.delete(channel);
  if (watched.size === 0) globalThis.removeEventListener("unhandledrejection", rejected);
}

/** Keeps werift's own failures from ending the process, and ends the connections that no longer work. */
function rejected(event: PromiseRejectionEvent): void {
  const stack = event.reason instanceof Error ? event.reason.stack ?? "" : String(event.reason);
  if (!/werift|waitForReady/.test(stack)) return;
  event.preventDefault();
  for (const channel of [...watched]) if (!channel.healthy) channel.close("the connection failed");
}
