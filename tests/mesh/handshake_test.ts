/** Handshakes of links against everybody who is not the expected worker, in memory on a virtual clock. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { HandshakeError } from "../../mesh/errors.ts";
import { type Credentials, HELLO_BYTES, PROOF_BYTES } from "../../mesh/link/handshake.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import { delegate, type Identity, newIdentity } from "../../mesh/identity/identity.ts";
import { type Link, type LinkOptions } from "../../mesh/link/link.ts";
import { openLink } from "../../mesh/link/open_link.ts";
import { KIND } from "../../mesh/link/link_wire.ts";
import { type MemoryChannel, memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { PROTOCOL_VERSION } from "../../mesh/control/messages.ts";
import type { ChannelBinding } from "../../mesh/runtime.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { clean } from "../compliance/clean.ts";

const coordinator = await newIdentity(), chance = denoRuntime();
const { a, b, c } = await localCredentials(chance, "run", ["a", "b", "c"], coordinator);

function options(clock: VirtualClock, self: "a" | "b", more: Partial<LinkOptions> = {}): LinkOptions {
  const lanes = { pipeline: 1_000, request: 1_000, reply: 1_000 };
  const peer = self === "a" ? "b" : "a";
  return { clock, self, peer, run: "run", generation: 7, lanes, credentials: self === "a" ? a : b, ...more };
}

interface Meeting {
  readonly clock: VirtualClock;
  /** Each end's link, or why there is none. */
  readonly ends: readonly [Link | string, Link | string];
  readonly channels: readonly [MemoryChannel, MemoryChannel];
}

/** Has a and somebody who claims to be b meet. `between` may change what either says; `undefined` swallows it. */
async function meet(
  mine: Partial<LinkOptions>,
  theirs: Partial<LinkOptions>,
  bindings?: readonly [ChannelBinding, ChannelBinding],
  between: (message: Uint8Array<ArrayBuffer>, from: 0 | 1) => Uint8Array<ArrayBuffer> | undefined = (m) => m,
): Promise<Meeting> {
  const clock = new VirtualClock(4), channels = memoryChannelPair({ clock, latencyMs: 1 });
  channels.forEach((channel, i) => {
    const send = channel.send.bind(channel);
    channel.send = (message) => {
      const changed = between(message.slice(), i as 0 | 1);
      if (changed) send(changed);
    };
    if (bindings) channel.binding = bindings[i];
  });
  const links = [
    openLink(channels[0], options(clock, "a", mine)),
    openLink(channels[1], options(clock, "b", theirs)),
  ];
  const results = await clock.until(Promise.allSettled(links));
  const ends = results.map((each) => each.status === "fulfilled" ? each.value : String(each.reason.message));
  return { clock, channels, ends: [ends[0], ends[1]] };
}

/** Nobody has a link, both ends of the connection close, and the first end's reason (or the other's) says so. */
async function refused(meeting: Promise<Meeting>, says: string): Promise<void> {
  const { clock, ends, channels } = await meeting;
  for (const end of ends) assert(typeof end === "string", "a link was opened");
  assertStringIncludes(ends.join("\n"), says);
  await clock.until(Promise.all(channels.map(({ closed }) => closed)));
  await clock.idle(10_000);
}

async function opened({ clock, ends: [x, y] }: Meeting): Promise<void> {
  assert(typeof x !== "string" && typeof y !== "string", `${x} ${y}`);
  x.close();
  assertEquals((await clock.until(y.closed)).orderly, true);
}

/** Credentials with a delegation for something else or by somebody else. */
async function delegated(
  by: Identity,
  to: { run?: string; worker?: string; from?: number; until?: number },
  identity?: Identity,
): Promise<Credentials> {
  identity ??= await newIdentity();
  const { run = "run", worker = "b", from = 0, until = 9e15 } = to;
  const word = await delegate(by, { run, worker, publicKey: identity.publicKey }, from, until);
  return { identity, coordinator: coordinator.publicKey, delegation: () => word, chance };
}

Deno.test("two workers with the coordinator's word open a link", clean, async () => {
  await opened(await meet({}, {}));
});

Deno.test("a stale generation is refused, named on both sides", clean, async () => {
  const { ends } = await meet({}, { generation: 6 });
  assertEquals(ends, [
    "Cannot open a link to b: b is in generation 6, this worker in 7",
    "Cannot open a link to a: a is in generation 7, this worker in 6",
  ]);
});

Deno.test("another protocol version is refused before anything else of a hello is read", clean, async () => {
  for (const [version, older] of [[PROTOCOL_VERSION + 1, "this worker"], [1, "the peer's worker"]] as const) {
    const other = new Uint8Array(7).fill(0xff);
    other[0] = KIND.hello;
    new DataView(other.buffer).setUint16(1, version, true);
    const talk = meet(
      {},
      {},
      undefined,
      (message, from) => from === 1 && message[0] === KIND.hello ? other : message,
    );
    await refused(
      talk,
      `The peer speaks protocol ${version}, this worker speaks ${PROTOCOL_VERSION}: update Volary on ${older}`,
    );
  }
});

Deno.test("no word of this coordinator for this worker in this run: refused", clean, async () => {
  const stranger = await newIdentity();
  const cases: [string, Credentials][] = [
    ["another worker of the same run", c],
    ["signed by somebody else", await delegated(stranger, {})],
    ["signed by itself", await delegated(stranger, {}, stranger)],
    ["for another run", await delegated(coordinator, { run: "other" })],
    ["for another worker", await delegated(coordinator, { worker: "a" })],
    ["b's word with another key", { ...b, identity: await newIdentity() }],
  ];
  for (const [, credentials] of cases) {
    await refused(meet({}, { credentials }), "no word of this mesh's coordinator for it in the run run");
  }
  // The word with b's public key, but without the private one.
  const liar: Credentials = { ...b, identity: { ...stranger, publicKey: b.identity.publicKey } };
  await refused(meet({}, { credentials: liar }), "somebody stands between, or pretends to be b");
});

Deno.test("a word that is not good yet or any more names the clock", clean, async () => {
  const wall = new VirtualClock().wall(), hour = 3_600_000;
  const late = await delegated(coordinator, { from: wall + hour, until: wall + 2 * hour });
  await refused(meet({}, { credentials: late }), "60 minutes off: set the clock that is wrong");
  const old = await delegated(coordinator, { from: wall - 2 * hour, until: wall - hour });
  await refused(meet({}, { credentials: old }), "60 minutes off: set the clock that is wrong");
  const never = await delegated(coordinator, { from: NaN, until: Infinity });
  await refused(meet({}, { credentials: never }), "a time that there is not");
});

Deno.test("a replayed handshake opens nothing", clean, async () => {
  const overheard: Uint8Array<ArrayBuffer>[] = [];
  await opened(
    await meet({}, {}, undefined, (message, from) => {
      if (from === 1) overheard.push(message.slice());
      return message;
    }),
  );
  assertEquals(overheard.slice(0, 2).map(({ length }) => length), [HELLO_BYTES, PROOF_BYTES]);
  const clock = new VirtualClock(), [mine, theirs] = memoryChannelPair({ clock, latencyMs: 1 });
  theirs.onmessage = (message) => message[0] === KIND.refuse && theirs.close("read");
  const opening = openLink(mine, options(clock, "a"));
  for (const message of overheard) theirs.send(message);
  const [result] = await clock.until(Promise.allSettled([opening]));
  assert(result.status === "rejected");
  assertStringIncludes(result.reason.message, "somebody stands between");
  await clock.idle(10_000);
});

Deno.test("one's own words sent back open nothing", clean, async () => {
  const clock = new VirtualClock(), [mine, mirror] = memoryChannelPair({ clock, latencyMs: 1 });
  mirror.onmessage = (message) => {
    if (message[0] === KIND.refuse) return mirror.close("read");
    mirror.send(message);
  };
  const [result] = await clock.until(Promise.allSettled([openLink(mine, options(clock, "a"))]));
  assert(result.status === "rejected");
  assertStringIncludes(result.reason.message, "no word of this mesh's coordinator");
  await clock.idle(10_000);
});

Deno.test("a hello or a proof with any byte changed on the way opens nothing", clean, async () => {
  for (let at = 0; at < HELLO_BYTES; at += 3) {
    const changed = (message: Uint8Array<ArrayBuffer>, from: 0 | 1) => {
      if (from === 1 && message.length === HELLO_BYTES) message[at] ^= 0x10;
      return message;
    };
    await refused(meet({}, {}, undefined, changed), "");
  }
  for (let at = 0; at < PROOF_BYTES; at += 3) {
    const changed = (message: Uint8Array<ArrayBuffer>, from: 0 | 1) => {
      if (from === 0 && message.length === PROOF_BYTES) message[at] ^= 1;
      return message;
    };
    await refused(meet({}, {}, undefined, changed), "");
  }
});

Deno.test("words of other sizes, data before a proof: nothing of it is read", clean, async () => {
  const frame = Uint8Array.of(KIND.numbered, 0, 0, 0, 0, KIND.data, 0, 1, 2, 3);
  const words = [
    new Uint8Array(0),
    new Uint8Array(HELLO_BYTES - 1),
    new Uint8Array(HELLO_BYTES + 1),
    Uint8Array.of(KIND.abort, 27, 91, 50, 74), // text for a terminal
    Uint8Array.of(KIND.ready),
    frame,
  ];
  for (const word of words) {
    await refused(
      meet({}, {}, undefined, (message, from) => from === 1 && message[0] === KIND.hello ? word : message),
      "",
    );
    await refused(
      meet({}, {}, undefined, (message, from) => from === 1 && message[0] === KIND.proof ? word : message),
      "",
    );
  }
});

/** Certificates as the two ends see them where nobody stands between. */
const own = "AA:AA", other = "BB:BB";
const certificates = [{ own, peer: other }, { own: other, peer: own }] as const;
const shared = new Uint8Array(32).fill(9);
const ends = (
  ...[x, y]: [Partial<ChannelBinding>, Partial<ChannelBinding>]
): [ChannelBinding, ChannelBinding] => [
  { proven: false, ...x },
  { proven: false, ...y },
];

Deno.test(
  "keying material that differs, certificates that differ: somebody stands between",
  clean,
  async () => {
    await opened(await meet({}, {}, ends({ shared }, { shared })));
    await refused(meet({}, {}, ends({ shared }, { shared: new Uint8Array(32) })), "somebody stands between");
    const [x, y] = certificates;
    await opened(await meet({}, {}, ends({ certificates: x, proven: true }, { certificates: y })));
    await opened(await meet({}, {}, ends({ certificates: x, shared }, { certificates: y, proven: true })));
    const middle = { own: other, peer: "CC:CC" };
    await refused(
      meet({}, {}, ends({ certificates: x, proven: true }, { certificates: middle, proven: true })),
      "somebody stands between",
    );
  },
);

Deno.test(
  "certificates that neither end's library checks are not enough, and nobody can be talked down",
  clean,
  async () => {
    const [x, y] = certificates, weak = ends({ certificates: x }, { certificates: y });
    await refused(meet({}, {}, weak), "cannot be told from one with somebody between");
    await refused(meet({}, {}, ends({}, {})), "cannot be told from one with somebody between");
    // Someone between two ends with keying material tells each that the other has none but checks certificates.
    const strong = ends({ certificates: x, shared }, { certificates: y, shared: new Uint8Array(32) });
    const lie = (message: Uint8Array<ArrayBuffer>) => {
      if (message.length === HELLO_BYTES) message[3] = 2 | 4;
      return message;
    };
    await refused(meet({}, {}, strong, lie), "somebody stands between");
  },
);

Deno.test("refusals have one size and no words of the refused", clean, async () => {
  const said: Uint8Array[] = [];
  await refused(
    meet({}, { generation: 8 }, undefined, (message, from) => {
      if (from === 0) said.push(message);
      return message;
    }),
    "generation",
  );
  assertEquals(said.map(({ length }) => length), [HELLO_BYTES, 4]);
  assert(new HandshakeError("x").name === "HandshakeError");
});
