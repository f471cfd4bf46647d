/**
 * Somebody in the middle of signalling and media between two transports, whichever they are.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { HELLO_BYTES, PROOF_BYTES } from "../../mesh/link/handshake.ts";
import { openLink } from "../../mesh/link/open_link.ts";
import type { Transport } from "../../mesh/runtime.ts";
import { localChannels } from "../../mesh/transports/local_links.ts";
import { signalPair } from "../../mesh/transports/signal_pair.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { lenient } from "../compliance/clean.ts";
import { credentials, GENERATION, header } from "../compliance/linked.ts";
import { clonedCertificate, ownCertificate, rawEnd } from "./attacker.ts";

export const clock = denoRuntime(), transport = weriftTransport({ clock, loopback: true });
const common = {
  clock,
  run: "run",
  generation: GENERATION,
  lanes: { pipeline: 1 << 16, request: 0, reply: 0 },
};
export const options = {
  a: { ...common, self: "a", peer: "b", credentials: credentials.a },
  b: { ...common, self: "b", peer: "a", credentials: credentials.b },
};

/** The same two workers, without anybody between them, still have a link. */
export async function unharmed(one: Transport = transport, other: Transport = transport): Promise<void> {
  const [a, b] = await localChannels([one, other]);
  const [x, y] = await Promise.all([openLink(a, options.a), openLink(b, options.b)]);
  const arrived = new Promise<number>((resolve) => {
    y.onframe = (_lane, _header, payload, consumed) => {
      consumed();
      resolve(payload.length);
    };
  });
  await x.send("pipeline", header(), [new Uint8Array(1_000)]);
  assertEquals(await arrived, 1_000);
  await Promise.all([x.close(), y.closed]);
}

const relays = [
  ["with certificates of its own", ownCertificate],
  ["with copies of theirs", clonedCertificate],
  ["even with the certificates and keys of werift's ends", () => Promise.resolve(undefined)],
] as const;

/** Tests that both ends refuse; `enforcing` is the one of them that has a certificate's key proved, if any. */
export function testsInTheMiddle(
  pair: string,
  one: Transport,
  other: Transport,
  enforcing?: Transport,
): void {
  for (const [how, certificate] of relays) {
    // The native library wants a proof of the certificate's key: a copy gets no connection at all.
    const noneOpens = enforcing !== undefined && certificate === clonedCertificate;
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
          const at = one === enforcing ? 0 : 1;
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
