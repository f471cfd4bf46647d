/** What the werift transport adds to werift: see its file. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { Buffer } from "node:buffer";
import { promises } from "node:dns";
import { Socket } from "node:dgram";
import { networkInterfaces } from "node:os";
import { RTCPeerConnection } from "werift";
import { isApplicationData } from "../../mesh/transports/datagram.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { LinkError } from "../../mesh/errors.ts";
import { PeerDescription, sessionDescription } from "../../mesh/transports/peer_description.ts";
import type { Channel, Clock, Signal } from "../../mesh/runtime.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";
import { lenient } from "../compliance/clean.ts";
import { floodLink } from "../../bench/security/hostile_datagrams.ts";

const clock = denoRuntime(), transport = weriftTransport({ clock, loopback: true });
/** Time-outs fire ten times as soon. */
const hasty: Clock = { ...clock, timer: (ms, fire) => clock.timer(ms / 10, fire) };

/** A signal that keeps what its owner says. */
function tapped(signal: Signal): { signal: Signal; said: unknown[] } {
  const said: unknown[] = [];
  return {
    said,
    signal: {
      send(body) {
        said.push(body);
        signal.send(body);
      },
      get onbody() {
        return signal.onbody;
      },
      set onbody(handler) {
        signal.onbody = handler;
      },
    },
  };
}

async function both(): Promise<{ a: Channel; b: Channel; said: PeerDescription[] }> {
  const [sa, sb] = signalPair(), ta = tapped(sa), tb = tapped(sb);
  const [a, b] = await Promise.all([transport.open(ta.signal, true), transport.open(tb.signal, false)]);
  return { a, b, said: [...ta.said, ...tb.said].map((body) => PeerDescription.parse(body)) };
}

async function closeBoth(a: Channel, b: Channel): Promise<void> {
  a.close();
  b.close();
  await Promise.all([a.closed, b.closed]);
}

for (const initiator of [true, false]) {
  const who = initiator ? "offers" : "answers";
  Deno.test(
    `a peer that names no address, as browsers do, is met by its own checks: it ${who}`,
    lenient,
    async () => {
      const [sa, sb] = signalPair(), { send } = sa;
      sa.send = (body) => send({ ...body as PeerDescription, candidates: [] });
      const [a, b] = await Promise.all([transport.open(sa, initiator), transport.open(sb, !initiator)]);
      const heard = new Promise((resolve) => b.onmessage = resolve);
      a.send(new Uint8Array([1, 2, 3]));
      assertEquals(await heard, new Uint8Array([1, 2, 3]));
      await closeBoth(a, b);
    },
  );
}

Deno.test("connecting sends packets to this machine only", lenient, async () => {
  const local = new Set(["127.0.0.1", "::1"]);
  for (const all of Object.values(networkInterfaces())) {
    for (const { address } of all ?? []) local.add(address);
  }
  const send = Socket.prototype.send, lookup = promises.lookup, seen = new Set<string>();
  promises.lookup = ((name: string) => {
    seen.add(name);
    return Promise.resolve({ address: "192.0.2.1", family: 4 });
  }) as typeof lookup;
  // deno-lint-ignore no-explicit-any
  Socket.prototype.send = function (this: Socket, ...parts: any[]) {
    const address = parts.find((part, i) => i > 0 && typeof part === "string");
    if (address !== undefined) seen.add(address);
    return (send as (...parts: unknown[]) => void).apply(this, parts);
  } as typeof send;
  try {
    const { a, b } = await both();
    await closeBoth(a, b);
  } finally {
    Socket.prototype.send = send;
    promises.lookup = lookup;
  }
  assert(seen.size > 0);
  for (const address of seen) assert(local.has(address), `a packet went to ${address}`);
});

Deno.test("datagrams from strangers do not disturb an open connection", lenient, async () => {
  const { sent, arrived, orderly } = await floodLink([transport, transport], clock, 5_000, 77);
  assertEquals([arrived, orderly], [sent, true]);
});

Deno.test("only whole records of encrypted application data pass the filter", lenient, () => {
  const good = [23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 2, 5, 5];
  assert(isApplicationData(Uint8Array.from(good)));
  assert(isApplicationData(Uint8Array.from([...good, ...good])));
  assert(!isApplicationData(new Uint8Array(0)));
  for (let end = 1; end < good.length; end++) assert(!isApplicationData(Uint8Array.from(good.slice(0, end))));
  assert(!isApplicationData(Uint8Array.from([...good, 23])));
  for (const [at, value] of [[0, 22], [0, 21], [0, 20], [1, 0], [4, 0], [4, 2], [12, 0]]) {
    assert(!isApplicationData(Uint8Array.from(good.with(at, value))), `byte ${at} = ${value}`);
  }
});

Deno.test("a peer says values, never text of its own making", lenient, async () => {
  const { a, b, said: [offer] } = await both();
  await closeBoth(a, b);
  const candidate = offer.candidates[0];
  const bad: [string, unknown][] = [
    ["session text", { type: "offer", sdp: sessionDescription(offer) }],
    ["a line break", { ...offer, ufrag: "abcd\r\na=x:y" }],
    ["a name", { ...offer, candidates: [{ ...candidate, address: "evil.local" }] }],
    ["a name that looks like an address", {
      ...offer,
      candidates: [{ ...candidate, address: "1.2.3.4.example" }],
    }],
    ["too many candidates", { ...offer, candidates: Array(17).fill(candidate) }],
    ["a port of 0", { ...offer, candidates: [{ ...candidate, port: 0 }] }],
    ["a weak fingerprint", { ...offer, fingerprint: "00:11" }],
    ["the wrong role", { ...offer, role: "answer" }],
    ["more than is asked", { ...offer, extra: 1 }],
    ["nothing", null],
  ];
  for (const [name, body] of bad) {
    const [mine, theirs] = signalPair();
    theirs.send(body);
    const error = await assertRejects(() => transport.open(mine, false), LinkError);
    assertStringIncludes(error.message, "not valid", name);
  }
});

Deno.test(
  "no answer, or a certificate other than announced: an error, and the next attempt works",
  lenient,
  async () => {
    const hurried = weriftTransport({ clock: hasty, loopback: true });
    const [alone] = signalPair();
    await assertRejects(() => hurried.open(alone, true), LinkError, "no connection after");

    const [sa, sb] = signalPair();
    const forged: Signal = {
      send(body) {
        const { fingerprint, ...rest } = body as PeerDescription;
        sa.send({ ...rest, fingerprint: (fingerprint[0] === "0" ? "1" : "0") + fingerprint.slice(1) });
      },
      get onbody() {
        return sa.onbody;
      },
      set onbody(handler) {
        sa.onbody = handler;
      },
    };
    const results = await Promise.allSettled([hurried.open(forged, true), hurried.open(sb, false)]);
    assert(results[1].status === "rejected" && results[1].reason instanceof LinkError);
    if (results[0].status === "fulfilled") {
      results[0].value.close();
      await results[0].value.closed;
    }
    const { a, b } = await both();
    await closeBoth(a, b);
  },
);

/** Our end, connected to a werift connection without any of our guards. */
async function toRaw(): Promise<
  { mine: Channel; raw: RTCPeerConnection; rawChannel: ReturnType<RTCPeerConnection["createDataChannel"]> }
> {
  const [sa, sb] = signalPair();
  const raw = new RTCPeerConnection({ iceServers: [], iceAdditionalHostAddresses: ["127.0.0.1"] });
  const opening = transport.open(sa, true);
  const offer = await new Promise((resolve) => sb.onbody = resolve);
  await raw.setRemoteDescription({ type: "offer", sdp: sessionDescription(PeerDescription.parse(offer)) });
  const rawChannel = raw.createDataChannel("volary", { negotiated: true, id: 0 });
  for (const { connection } of raw.iceTransports) {
    (connection as { stunServer: unknown }).stunServer = undefined;
  }
  await raw.setLocalDescription(await raw.createAnswer());
  const { localParameters, localCandidates } = raw.iceTransports[0];
  sb.send({
    role: "answer",
    ufrag: localParameters.usernameFragment,
    pwd: localParameters.password,
    fingerprint: raw.dtlsTransports[0].localParameters.fingerprints[0].value.toUpperCase(),
    candidates: localCandidates.map(({ ip, port, priority }) => ({
      address: ip,
      port,
      priority,
      type: "host",
    })),
  });
  return { mine: await opening, raw, rawChannel };
}

const misdeeds: [
  string,
  string,
  (raw: RTCPeerConnection, channel: Awaited<ReturnType<typeof toRaw>>["rawChannel"]) => void,
][] = [
  ["opens another channel", "does not exist", (raw) => void raw.createDataChannel("other")],
  ["sends text", "does not exist", (_, channel) => channel.send("text")],
  ["sends too large a message", "too large", (_, channel) => channel.send(Buffer.alloc(70_000))],
  [
    "sends a message without end",
    "without ever completing",
    (_, channel) => channel.send(Buffer.alloc(6 << 20)),
  ],
  [
    "sends no SCTP at all",
    "packet that is not valid",
    (raw) => void raw.dtlsTransports[0].sendData(Buffer.alloc(40, 7)),
  ],
];

for (const [name, reason, misdeed] of misdeeds) {
  Deno.test(`a peer that ${name} loses its connection, and nothing else happens`, lenient, async () => {
    const { mine, raw, rawChannel } = await toRaw();
    mine.onmessage = () => {};
    raw.sctpTransport!.remoteMaxMessageSize = 0;
    misdeed(raw, rawChannel);
    assertStringIncludes(await mine.closed, reason);
    await raw.close();
  });
}
