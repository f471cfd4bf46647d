/** Who is refused over real WebRTC, whose handshake proves nothing: someone in the middle, cloned certificates. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { HELLO_BYTES, PROOF_BYTES } from "../../mesh/handshake.ts";
import { localCredentials } from "../../mesh/handshake_local.ts";
import { newIdentity } from "../../mesh/identity.ts";
import { openLink } from "../../mesh/link.ts";
import { KIND } from "../../mesh/link_wire.ts";
import { nativeTransport } from "../../mesh/native_transport.ts";
import type { Transport } from "../../mesh/runtime.ts";
import { weriftTransport } from "../../mesh/werift_transport.ts";
import { lenient } from "../compliance/clean.ts";
import { signalPair } from "../../mesh/signal_pair.ts";
import { clonedCertificate, ownCertificate, type RawEnd, rawEnd } from "./attacker.ts";

const clock = denoRuntime(), transport = weriftTransport({ clock, loopback: true });
const native = nativeTransport({ clock, loopback: true });
const credentials = await localCredentials(clock, "r", ["a", "b"]);
const options = {
  a: {
    clock,
    self: "a",
    peer: "b",
    run: "r",
    generation: 1,
    credentials: credentials.a,
    lanes: { pipeline: 1 << 16, request: 0, reply: 0 },
  },
  b: {
    clock,
    self: "b",
    peer: "a",
    run: "r",
    generation: 1,
    credentials: credentials.b,
    lanes: { pipeline: 1 << 16, request: 0, reply: 0 },
  },
};

/** The same two workers, without anybody between them, still have a link. */
async function unharmed(one: Transport = transport, other: Transport = transport): Promise<void> {
  const [sa, sb] = signalPair();
  const [a, b] = await Promise.all([one.open(sa, true), other.open(sb, false)]);
  const [x, y] = await Promise.all([openLink(a, options.a), openLink(b, options.b)]);
  const arrived = new Promise<number>((resolve) => {
    y.onframe = (_lane, _header, payload, consumed) => {
      consumed();
      resolve(payload.length);
    };
  });
  const header = {
    what: "activation",
    evaluate: false,
    generation: 1,
    round: 0,
    index: 0,
    microbatch: 0,
    sequence: 0,
  } as const;
  await x.send("pipeline", header, [new Uint8Array(1_000)]);
  assertEquals(await arrived, 1_000);
  await Promise.all([x.close(), y.closed]);
}

const relays = [
  ["with certificates of its own", ownCertificate],
  ["with copies of theirs", clonedCertificate],
  ["even with the certificates and keys of werift's ends", () => Promise.resolve(undefined)],
] as const;
const pairs: [string, Transport, Transport][] = [
  ["werift", transport, transport],
  ["werift and native", transport, native],
  ["native and werift", native, transport],
];
for (const [pair, one, other] of pairs) {
  for (const [how, certificate] of relays) {
    // The native library wants a proof of the certificate's key: a copy gets no connection at all.
    const noneOpens = pair !== "werift" && certificate === clonedCertificate;
    Deno.test(
      `someone in the middle of signalling and media is refused by both, ${how}: ${pair}`,
      lenient,
      async () => {
        const [sa, ma] = signalPair(), [mb, sb] = signalPair();
        const opening = [one.open(sa, true), other.open(sb, false)];
        const middle = await Promise.all([
          rawEnd(ma, false, await certificate()),
          rawEnd(mb, true, await certificate()),
        ]);
        const opened = await Promise.allSettled(opening); // werift itself notices nothing
        if (noneOpens) {
          const at = one === native ? 0 : 1;
          assertEquals(opened[at].status, "rejected");
          for (const end of opened) if (end.status === "fulfilled") end.value.close();
          await Promise.all(middle.map((end) => end.close()));
          return await unharmed(one, other);
        }
        const [a, b] = opened.map((end) => {
          if (end.status === "rejected") throw end.reason;
          return end.value;
        });
        await Promise.all(middle.map(({ opened }) => opened));
        const relayed: number[] = [];
        middle[0].onmessage((message) => {
          relayed.push(message.length);
          middle[1].send(message);
        });
        middle[1].onmessage((message) => {
          relayed.push(message.length);
          middle[0].send(message);
        });
        const results = await Promise.allSettled([openLink(a, options.a), openLink(b, options.b)]);
        const reasons = results.map((each) =>
          each.status === "rejected" ? String(each.reason.message) : "open"
        );
        for (const reason of reasons) assertMatch(reason, /somebody (stands between|.*between)/);
        // Two hellos, at most two proofs, and two refusals: nothing else was ever said.
        assert(relayed.every((size) => [HELLO_BYTES, PROOF_BYTES, 4].includes(size)), relayed.join());
        await Promise.all([a.closed, b.closed]);
        await Promise.all(middle.map((end) => end.close()));
        await unharmed(one, other);
      },
    );
  }
}

/** What somebody overheard of b: its hello, which shows the coordinator's word for it. */
async function overheardHello(): Promise<Uint8Array> {
  const { memoryChannelPair } = await import("../../mesh/memory_transport.ts");
  const [x, y] = memoryChannelPair();
  const heard = new Promise<Uint8Array>((resolve) => y.onmessage = resolve);
  const link = openLink(x, options.b).catch(() => {});
  const hello = await heard;
  y.close();
  await link;
  return hello;
}

for (const role of ["client", "server"] as const) {
  Deno.test(`a cloned certificate with another key is refused, as DTLS ${role}`, lenient, async () => {
    const [sa, sm] = signalPair(), initiator = role === "client"; // who offers is DTLS's server
    const opening = transport.open(sa, initiator);
    const attacker: RawEnd = await rawEnd(sm, !initiator, await clonedCertificate());
    const a = await opening;
    await attacker.opened;
    const frames: unknown[] = [], heard: Uint8Array[] = [];
    attacker.onmessage((message) => heard.push(message));
    const link = openLink(a, options.a);
    link.then((open) => open.onframe = (...frame) => frames.push(frame), () => {});
    // All it can: b's own words, a signature by another key, and then as if all were well.
    attacker.send(await overheardHello());
    const proof = new Uint8Array(PROOF_BYTES);
    proof[0] = KIND.proof;
    proof.set(await (await newIdentity()).sign(new Uint8Array(3)), 1);
    attacker.send(proof);
    attacker.send(Uint8Array.of(KIND.numbered, 0, 0, 0, 0, KIND.ready));
    const result = await Promise.allSettled([link]);
    assert(result[0].status === "rejected");
    assertMatch(result[0].reason.message, /somebody stands between, or pretends to be b/);
    assertEquals(frames, []);
    await attacker.close();
    await a.closed;
    await unharmed();
  });
}
