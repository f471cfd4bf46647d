/**
 * Mutations of what peers say, in batches: messages of a link at its different ages and control messages. A peer that lies
 * may lose its link or be refused, by errors of ours, within bounded memory; nothing else may happen.
 *
 * @module
 */
import { Bundle } from "../../mesh/link/bundle.ts";
import { ChannelLink } from "../../mesh/link/channel_link.ts";
import { decodeMessage, encodeMessage } from "../../mesh/control/codec.ts";
import { FrameError, LinkError, MessageError } from "../../mesh/errors.ts";
import { decodeFrame, encodeFrame, type FrameHeader } from "../../mesh/tensors/frame.ts";
import { limits } from "../../mesh/limits.ts";
import { encodeCredit, encodeNumber, KIND } from "../../mesh/link/link_wire.ts";
import { FromCoordinator, FromWorker } from "../../mesh/control/messages.ts";
import { PeerDescription } from "../../mesh/transports/peer_description.ts";
import type { Channel } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

/** What came of a number of mutations. */
export interface Fuzzed {
  readonly tried: number;
  /** Messages that were refused, and links that ended. */
  readonly refused: number;
  /** Most bytes that a link held. */
  readonly mostHeld: number;
}

/** Largest frame of the link under test, and messages that it gets at most. */
const FRAME = 4_096, MESSAGES = 64;

const header: FrameHeader = {
  what: "activation",
  evaluate: false,
  generation: 7,
  round: 1,
  index: 2,
  microbatch: 3,
  sequence: 0,
};

/** Changes, cuts, doubles or replaces some of the bytes. */
function mutate(bytes: Uint8Array, chance: VirtualClock): Uint8Array<ArrayBuffer> {
  const at = () => Math.floor(chance.uniform() * bytes.length);
  let out = bytes.slice();
  for (let changes = 1 + Math.floor(chance.uniform() * 3); changes > 0; changes--) {
    switch (Math.floor(chance.uniform() * 6)) {
      case 0:
        out[at()] ^= 1 << Math.floor(chance.uniform() * 8);
        break;
      case 1:
        out[at()] = Math.floor(chance.uniform() * 256);
        break;
      case 2:
        out = out.slice(0, at());
        break;
      case 3:
        out = new Uint8Array([...out, ...chance.random(1 + Math.floor(chance.uniform() * 8))]);
        break;
      case 4:
        out.set([0xff, 0xff, 0xff, 0xff].slice(0, Math.max(0, Math.min(4, out.length))), 0);
        break;
      default: {
        const from = at();
        out.copyWithin(from, at(), at());
      }
    }
  }
  return out;
}

/** A channel whose other end is the fuzzer. */
class FuzzedChannel implements Channel {
  readonly kind = "fuzz";
  readonly maxMessage = limits.pieceBytes;
  readonly binding = undefined as unknown as Channel["binding"];
  onmessage: Channel["onmessage"];
  readonly closed: Promise<string>;
  over = false;
  #close!: (reason: string) => void;

  constructor() {
    this.closed = new Promise((resolve) => this.#close = resolve);
  }

  send(): void {
    if (this.over) throw new LinkError("Cannot send on a closed channel");
  }

  buffered(): number {
    return 0;
  }

  drained(): Promise<void> {
    return Promise.resolve();
  }

  close(reason = "closed"): void {
    this.over = true;
    this.#close(reason);
  }
}

/** Messages on a channel that has been greeted: some true, some mutated, numbers as they should be or not. */
export async function fuzzLinks(count: number, seed: number): Promise<Fuzzed> {
  const chance = new VirtualClock(seed);
  let tried = 0, refused = 0, mostHeld = 0;
  while (tried < count) {
    const clock = new VirtualClock(seed); // one for each: cancelled timers stay on a clock until their time
    const channel = new FuzzedChannel(), bundle = new Bundle({ clock, peer: "b" });
    const link = new ChannelLink(
      bundle,
      {
        clock,
        self: "a",
        peer: "b",
        run: "run",
        generation: 7,
        lanes: { pipeline: FRAME, request: FRAME, reply: FRAME },
      } as unknown as ConstructorParameters<typeof ChannelLink>[1],
    );
    const consumes = chance.uniform() < 0.8;
    link.onframe = (_lane, _header, payload, consumed) => {
      if (payload.length > FRAME) throw new Error("a frame is larger than the plan's");
      if (consumes) consumed();
    };
    bundle.add(channel);
    let number = 0;
    const numbered = (body: Uint8Array) => {
      const message = new Uint8Array(5 + body.length);
      message[0] = KIND.numbered;
      new DataView(message.buffer).setUint32(1, number++, true);
      message.set(body, 5);
      return message;
    };
    for (let lane = 0; lane < 3; lane++) channel.onmessage!(numbered(encodeCredit(lane, 1 << 20)));
    channel.onmessage!(numbered(Uint8Array.of(KIND.ready)));
    for (let n = 0; n < MESSAGES && !bundle.ended && tried < count; n++) {
      const payload = chance.random(Math.floor(chance.uniform() * 40));
      const frame = encodeFrame({ ...header, sequence: n }, payload.length);
      const bodies = [
        new Uint8Array([KIND.data, Math.floor(chance.uniform() * 3), ...frame, ...payload]),
        encodeCredit(n % 3, 1_000),
        Uint8Array.of([KIND.bye, KIND.byeAck, KIND.fin][n % 3]),
      ];
      const body = bodies[Math.floor(chance.uniform() ** 3 * bodies.length)];
      let message = numbered(chance.uniform() < 0.3 ? mutate(body, chance) : body);
      if (chance.uniform() < 0.05) message = encodeNumber([KIND.ping, KIND.pong, KIND.arrived][n % 3], n);
      if (chance.uniform() < 0.3) message = mutate(message, chance);
      channel.onmessage!(message);
      tried++;
    }
    mostHeld = Math.max(mostHeld, link.counters.mostHeld);
    if (bundle.ended) refused++;
    link.abort("done");
    channel.close();
    await Promise.resolve();
  }
  return { tried, refused, mostHeld };
}

/** Bytes that are refused must be refused by an error of ours. */
function refuses(read: () => unknown): boolean {
  try {
    read();
    return false;
  } catch (error) {
    if (error instanceof MessageError || error instanceof FrameError || error instanceof LinkError) {
      return true;
    }
    throw error;
  }
}

/** Control messages of both directions, and headers of frames. */
export function fuzzMessages(count: number, seed: number): Fuzzed {
  const chance = new VirtualClock(seed);
  const report = { busy: 1, elapsed: 2, sent: 3, received: 4, waited: 5 };
  const said = [
    encodeMessage({ type: "ping", id: 7 }),
    encodeMessage({
      type: "signal",
      generation: 3,
      peer: "w1",
      body: { attempt: 1, body: { a: [1, "x", null] } },
    }),
    encodeMessage({ type: "chunk", id: 9, bytes: new Uint8Array(300) }),
    encodeMessage({
      type: "pull",
      id: 9,
      tensor: "model.layers.0.mlp.weight",
      part: "m",
      start: 0,
      length: 99,
    }),
    encodeMessage({
      type: "vote",
      generation: 1,
      round: 2,
      tensors: [{ name: "t", sum: 1.5, finite: true }],
      losses: [{ microbatch: 0, layer: 0, ce: 1, balance: 0, z: 0, load: [[1, 2], []] }],
      report,
    }),
    encodeMessage({ type: "failed", generation: 2, reason: "because" }),
    encodeFrame(header, 100),
  ];
  let refused = 0;
  for (let i = 0; i < count; i++) {
    const kind = i % said.length, bytes = mutate(said[kind], chance);
    const read = kind === said.length - 1
      ? () => decodeFrame(bytes)
      : () => decodeMessage(i & 8 ? FromWorker : FromCoordinator, bytes, limits.strangerBytes);
    if (refuses(read)) refused++;
  }
  return { tried: count, refused, mostHeld: 0 };
}

/** What one end tells of itself, with values of other types and sizes: read or not, never thrown over. */
export function fuzzDescriptions(count: number, seed: number): Fuzzed {
  const chance = new VirtualClock(seed);
  const odd = [
    null,
    0,
    -1,
    1e300,
    NaN,
    "",
    "x".repeat(300),
    "\r\na=x",
    [],
    {},
    true,
    "evil.local",
    "::1",
    65_536,
  ];
  const pick = () => odd[Math.floor(chance.uniform() * odd.length)];
  let refused = 0;
  for (let i = 0; i < count; i++) {
    const body: Record<string, unknown> = {
      role: "offer",
      ufrag: "abcd",
      pwd: "a".repeat(22),
      fingerprint: Array(32).fill("AB").join(":"),
      candidates: [{ address: "127.0.0.1", port: 9, priority: 1, type: "host" }] as unknown[],
    };
    const keys = Object.keys(body), key = keys[Math.floor(chance.uniform() * keys.length)];
    if (chance.uniform() < 0.5) body[key] = pick();
    else {(body.candidates as Record<string, unknown>[])[0][["address", "port", "priority", "type"][i % 4]] =
        pick();}
    if (!PeerDescription.safeParse(body).success) refused++;
  }
  return { tried: count, refused, mostHeld: 0 };
}
