/**
 * One data channel of node-datachannel as a `Channel`. For Deno only.
 *
 * @module
 */
import type { DataChannel, PeerConnection } from "node-datachannel";
import { limits } from "../limits.ts";
import type { ChannelBinding } from "../runtime.ts";
import { RtcChannel } from "./rtc_channel.ts";

/**
 * Messages from this size on are freed as soon as they have been read. Left to the garbage collector, hundreds of them lie
 * about before it comes, and each new one is memory that the system must first find and clear.
 */
const SPENT_BYTES = 4 << 10;

/** A data channel whose messages come from the library's own thread. */
export class NativeChannel extends RtcChannel {
  readonly kind = "webrtc (native)";
  /** The library shows no keying material, but the other end must prove that its certificate is its own. Set when open. */
  binding!: ChannelBinding;
  /** What a message costs in the library hardly depends on its size. */
  readonly pieceBytes = limits.channelBytes;
  #channel: DataChannel | undefined;

  constructor(private readonly connection: PeerConnection) {
    super();
    connection.onStateChange((state) => {
      if (state === "failed") this.close("the network path to the peer is lost");
      else if (state === "closed") this.close("the peer closed the connection");
    });
  }

  /** Makes the data channel. Both ends know it beforehand, so that nobody can open others. */
  attach(): void {
    const channel = this.#channel = this.connection.createDataChannel("volary", {
      negotiated: true,
      id: 0,
      unordered: false,
    });
    channel.setBufferedAmountLowThreshold(limits.lowWaterBytes);
    channel.onOpen(() => this.open());
    channel.onClosed(() => this.close("the peer closed the connection"));
    channel.onError((error) => this.close(`the connection failed: ${error}`));
    channel.onBufferedAmountLow(() => this.drain());
    channel.onMessage((data) => {
      if (typeof data === "string") return this.close("the peer sent text where only bytes are spoken");
      // The library makes a buffer for each message, never one of shared memory.
      this.deliver(
        data instanceof ArrayBuffer
          ? new Uint8Array(data)
          : new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.length),
      );
    });
  }

  spent({ buffer }: Uint8Array<ArrayBuffer>): void {
    if (buffer.byteLength >= SPENT_BYTES) buffer.transfer(0);
  }

  protected override held(): number {
    return this.#channel?.bufferedAmount() ?? 0;
  }

  protected override transmit(message: Uint8Array<ArrayBuffer>): void {
    this.#channel!.sendMessageBinary(message);
  }

  protected override expect(bytes: number): void {
    this.#channel!.setBufferedAmountLowThreshold(bytes);
  }

  protected override shut(done: () => void): void {
    // The other end learns of it through the connection; a fault on the way changes nothing for the caller.
    try {
      this.#channel?.close();
      this.connection.close();
    } catch {
      // It was closed already.
    }
    done();
  }
}
