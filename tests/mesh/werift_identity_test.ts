/** Who is refused over real WebRTC, whose handshake proves nothing: someone in the middle, cloned certificates. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { PROOF_BYTES } from "../../mesh/link/handshake.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { openLink } from "../../mesh/link/open_link.ts";
import { KIND } from "../../mesh/link/link_wire.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";
import { lenient } from "../compliance/clean.ts";
import { clonedCertificate, type RawEnd, rawEnd } from "./attacker.ts";
import { options, testsInTheMiddle, transport, unharmed } from "./in_the_middle.ts";

testsInTheMiddle("werift", transport, transport);

/** What somebody overheard of b: its hello, which shows the coordinator's word for it. */
async function overheardHello(): Promise<Uint8Array> {
  const { memoryChannelPair } = await import("../../mesh/transports/memory_transport.ts");
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
