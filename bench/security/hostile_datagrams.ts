/**
 * Datagrams that a stranger may send to the address of an open connection.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createSocket } from "node:dgram";
import { PeerDescription } from "../../mesh/transports/peer_description.ts";
import type { Chance, Clock, Signal, Transport } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { localChannels, localHeader, localLinks } from "../../mesh/transports/local_links.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";

/** A DTLS record with a plaintext body. */
function record(type: number, epoch: number, body: Uint8Array): Uint8Array {
  const head = [
    type,
    0xfe,
    0xfd,
    epoch >> 8,
    epoch & 255,
    0,
    0,
    0,
    0,
    0,
    9,
    body.length >> 8,
    body.length & 255,
  ];
  return new Uint8Array([...head, ...body]);
}

/** A STUN message (RFC 8489) with the right cookie and whatever attributes. */
function stun(type: number, transaction: Uint8Array, attributes: Uint8Array): Uint8Array {
  const head = [
    type >> 8,
    type & 255,
    attributes.length >> 8,
    attributes.length & 255,
    0x21,
    0x12,
    0xa4,
    0x42,
  ];
  return new Uint8Array([...head, ...transaction, ...attributes]);
}

/** One of them: alerts, unknown records, forged STUN, plain SCTP, noise. */
function hostileDatagram(chance: VirtualClock): Uint8Array<ArrayBuffer> {
  const noise = chance.random(Math.floor(chance.uniform() * 120)), id = chance.random(12);
  const user = [0, 6, 0, 9, ...new TextEncoder().encode("abcd:efgh"), 0, 0, 0];
  const choices = [
    record(21, 0, Uint8Array.of(1, 0)), // close
    record(21, 0, Uint8Array.of(2, 40)), // a fatal alert
    record(30, 0, noise), // no type that there is
    record(21, 1, noise),
    record(22, 0, noise), // handshake
    record(22, 0, new Uint8Array([1, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 40, ...chance.random(40)])), // a client's hello
    record(20, 0, Uint8Array.of(1)),
    record(23, 1, noise), // application data that does not decrypt
    record(23, 0, noise),
    record(23, 1, noise).slice(0, 20),
    new Uint8Array([...record(23, 1, chance.random(30)), 22]),
    noise,
    new Uint8Array([0x80, ...noise]), // media
    stun(0x0001, id, new Uint8Array(user)), // a binding request without integrity
    stun(0x0001, id, new Uint8Array([...user, 0, 8, 0, 20, ...chance.random(20)])), // with a forged one
    stun(0x0001, id, new Uint8Array([0, 6, 0xff, 0xff])), // an attribute longer than the message
    stun(0x0101, id, new Uint8Array([0, 0x20, 0, 8, 0, 1, ...chance.random(6)])), // an answer to nothing
    stun(0x0111, id, new Uint8Array([0, 9, 0, 4, 0, 0, 4, 87])), // "role conflict"
    stun(0x0011, id, noise), // an indication
    stun(0x0001, id, noise).slice(0, 10 + Math.floor(chance.uniform() * 10)),
    new Uint8Array([0x40, 0, noise.length >> 8, noise.length & 255, ...noise]), // TURN's channel data
    new Uint8Array([0x13, 0x88, 0x13, 0x88, ...chance.random(8), 1, 0, 0, 20, ...chance.random(16)]), // SCTP without DTLS
    new Uint8Array(60_000).fill(23), // as large as it gets
  ];
  return new Uint8Array(choices[Math.floor(chance.uniform() * choices.length)]);
}

/** What became of a link under a flood of them. */
export interface Flooded {
  readonly datagrams: number;
  /** Frames sent between them, and those that arrived. */
  readonly sent: number;
  readonly arrived: number;
  /** The link closed in good order afterwards. */
  readonly orderly: boolean;
}

/** Datagrams sent between two frames. */
const BURST = 100;

/**
 * Opens a link between two ends in this process and sends `count` hostile datagrams to both, frames between them; calls
 * `halfway` behind half of them.
 */
export async function floodLink(
  transports: readonly [Transport, Transport],
  clock: Clock & Chance,
  count: number,
  seed: number,
  halfway = () => {},
): Promise<Flooded> {
  const chance = new VirtualClock(seed), said: PeerDescription[] = [];
  const signals = signalPair().map((signal): Signal => ({
    send(body) {
      said.push(PeerDescription.parse(body));
      signal.send(body);
    },
    get onbody() {
      return signal.onbody;
    },
    set onbody(handler) {
      signal.onbody = handler;
    },
  }));
  const channels = await localChannels(transports, signals);
  const [x, y] = await localLinks(channels, clock, { pipeline: 1 << 20, request: 0, reply: 0 });
  let arrived = 0, sent = 0, datagrams = 0;
  y.onframe = (_lane, _header, _payload, consumed) => {
    arrived++;
    consumed();
  };
  const targets = said.flatMap(({ candidates }) => candidates).filter(({ address }) =>
    address === "127.0.0.1"
  );
  const stranger = createSocket("udp4");
  while (datagrams < count) {
    for (let n = 0; n < BURST; n++, datagrams++) {
      const { address, port } = targets[n % targets.length];
      stranger.send(Buffer.from(hostileDatagram(chance)), port, address);
    }
    if (datagrams === count / 2) halfway();
    await x.send("pipeline", localHeader(sent++), [new Uint8Array(20_000)]);
    // The flood must reach the ends before the next one.
    await new Promise((resolve) => setTimeout(resolve));
  }
  const { orderly } = await x.close();
  await y.closed;
  await new Promise<void>((resolve) => stranger.close(() => resolve()));
  return { datagrams, sent, arrived, orderly };
}
