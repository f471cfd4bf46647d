/** Who is let in, by which invite and under which name, and what outlives the coordinator. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { Admission, type Keeper } from "../../coordinator/admission/admission.ts";
import { AdmissionError } from "../../coordinator/errors.ts";
import { fingerprint, newIdentity } from "../../mesh/identity/identity.ts";
import { newInvite } from "../../mesh/identity/invite.ts";
import { limits } from "../../mesh/limits.ts";
import { door, said } from "./door.ts";

/** A keeper that shows what it was given. */
function memory(text?: string): Keeper & { text: string | undefined } {
  return {
    text,
    read() {
      return Promise.resolve(this.text);
    },
    write(text: string) {
      this.text = text;
      return Promise.resolve();
    },
  };
}

Deno.test("who proves to be invited is welcome and a member until it goes", async () => {
  const { membership, invite, knock, events, clock } = await door(), worker = await newIdentity();
  const came = await knock(await invite(), worker, "a");
  assertEquals(said(came), [{ type: "welcome", id: "a", run: "m" }]);
  assertEquals(membership.members.map((m) => m.id), ["a"]);
  assertEquals(membership.known.map(({ worker, state, joined }) => [worker, state, joined]), [
    ["a", "admitted", true],
  ]);
  came.channel.close("goodbye");
  await clock.pass(1);
  assertEquals(membership.members, []);
  assertEquals(membership.known[0].joined, false);
  assertEquals(events.map((e) => e.event), ["joined", "left"]);
  membership.close("over");
});

Deno.test("a wrong invite is refused, of another coordinator or of none", async () => {
  const { membership, identity, invite, knock, clock, events } = await door(), worker = await newIdentity();
  await invite();
  const made = newInvite(clock, {
    address: "ws://memory",
    coordinator: identity.publicKey,
    expires: undefined,
  });
  assertStringIncludes((await knock(made, worker, "a")).refused!, "The invite is not valid here");
  const stranger = await newIdentity();
  const other = { ...await invite(), coordinator: stranger.publicKey };
  assertStringIncludes(
    (await knock(other, worker, "a")).refused!,
    "not the coordinator that made the invite",
  );
  assertEquals(membership.members, []);
  assertEquals(events.map((e) => e.event), ["refused"], "the second one left by itself");
  membership.close("over");
});

Deno.test("a single-use invite is used once; its worker comes back without using it", async () => {
  const { membership, invite, knock, clock } = await door();
  const first = await newIdentity(), second = await newIdentity(), single = await invite({ uses: 1 });
  const one = await knock(single, first, "a");
  assertEquals(said(one)[0].type, "welcome");
  assertStringIncludes((await knock(single, second, "b")).refused!, "used up");
  one.channel.close("restart");
  await clock.pass(1);
  assertEquals(said(await knock(single, first, "a"))[0].type, "welcome");
  membership.close("over");
});

Deno.test("two who come at once with one use: one of them is let in", async () => {
  const { membership, invite, knock } = await door(), single = await invite({ uses: 1 });
  const both = await Promise.all([
    knock(single, await newIdentity(), "a"),
    knock(single, await newIdentity(), "b"),
  ]);
  assertEquals(both.filter(({ refused }) => refused === undefined).length, 1);
  assertEquals(membership.members.length, 1);
  membership.close("over");
});

Deno.test("a counted invite admits as many as it says", async () => {
  const { membership, invite, knock } = await door(), three = await invite({ uses: 3 });
  const came = [];
  for (const name of ["a", "b", "c", "d"]) came.push(await knock(three, await newIdentity(), name));
  assertEquals(came.map(({ refused }) => refused === undefined), [true, true, true, false]);
  membership.close("over");
});

Deno.test("an invite that has expired is refused, but not to who was admitted before", async () => {
  const { membership, invite, knock, clock } = await door(), known = await newIdentity();
  const hour = await invite({ uses: 9, forMs: 3_600_000 });
  const first = await knock(hour, known, "a");
  first.channel.close();
  await clock.pass(3_660_000);
  assertStringIncludes(
    (await knock(hour, await newIdentity(), "b")).refused!,
    "has expired (2026-01-01T01:00:00.000Z)",
  );
  assertEquals(said(await knock(hour, known, "a"))[0].type, "welcome");
  membership.close("over");
});

Deno.test("a revoked worker loses its connection and stays out, its invite too; others stay", async () => {
  const { membership, invite, knock, clock } = await door(), bad = await newIdentity();
  const shared = await invite({ uses: 9 });
  const honest = await knock(shared, await newIdentity(), "honest"), one = await knock(shared, bad, "bad");
  assertEquals((await membership.revoke("bad")).state, "revoked");
  await clock.pass(1);
  const told = said(one).at(-1)!;
  assert(told.type === "refused");
  assertStringIncludes(told.reason, "revoked");
  assertEquals(await clock.until(one.channel.closed), "refused");
  assertEquals(membership.members.map((m) => m.id), ["honest"]);
  assertStringIncludes((await knock(shared, bad, "bad")).refused!, "revoked");
  assertStringIncludes((await knock(shared, await newIdentity(), "bad2")).refused!, "not valid here");
  assertEquals(said(honest).map(({ type }) => type), ["welcome"]);
  await membership.approve(fingerprint(bad.publicKey).slice(0, 9));
  assertEquals(said(await knock(shared, bad, "bad"))[0].type, "welcome");
  await assertRejects(() => membership.revoke("nobody"), AdmissionError, "No worker is called nobody");
  membership.close("over");
});

Deno.test("with --approve a worker waits for its owner's word", async () => {
  const { membership, invite, knock, clock, events } = await door({ approve: true });
  const all = await invite(), worker = await newIdentity();
  const one = await knock(all, worker, "a"), other = await knock(all, await newIdentity(), "b");
  const told = said(one)[0];
  assert(told.type === "waiting");
  assertStringIncludes(told.reason, `approve a (its fingerprint is ${fingerprint(worker.publicKey)}`);
  assertEquals(membership.members, []);
  await membership.approve("a");
  await clock.pass(1);
  assertEquals(said(one)[1].type, "welcome");
  await membership.revoke("b");
  await clock.pass(1);
  assertEquals(said(other)[1].type, "refused");
  assertEquals(membership.members.map((m) => m.id), ["a"]);
  assertEquals(events.map((e) => e.event), ["waiting", "waiting", "joined", "refused"]);
  one.channel.close();
  await clock.pass(1);
  assertEquals(said(await knock(all, worker, "a"))[0].type, "welcome", "approved once");
  membership.close("over");
});

Deno.test("names: bad ones, one that is another's, a key that is there already", async () => {
  const { membership, invite, knock } = await door(), all = await invite();
  const reason = async (worker: Awaited<ReturnType<typeof newIdentity>>, name: string) => {
    const last = said(await knock(all, worker, name)).at(-1)!;
    return last.type === "refused" ? last.reason : last.type;
  };
  for (const name of ["../x", "__proto__", ".hidden", "x".repeat(64)]) {
    assertStringIncludes(await reason(await newIdentity(), name), "cannot be used");
  }
  const a = await newIdentity();
  assertEquals(await reason(a, "a"), "welcome");
  assertStringIncludes(await reason(await newIdentity(), "a"), "belongs to another worker");
  assertStringIncludes(await reason(a, "a2"), "has joined already, as a");
  assertEquals(membership.members.map((m) => m.id), ["a"]);
  membership.close("over");
});

Deno.test("a worker that comes back before its old connection counts as dead takes its place", async () => {
  const { membership, invite, knock, clock } = await door(), all = await invite(), a = await newIdentity();
  const old = await knock(all, a, "a");
  await clock.pass(limits.suspectedMs + 2 * limits.heartbeatMs); // and says nothing
  assertEquals(membership.members.length, 1);
  const back = await knock(all, a, "a");
  assertEquals(said(back)[0].type, "welcome");
  assertEquals(await clock.until(old.channel.closed), "the same worker has connected again");
  assertEquals(membership.members.length, 1);
  membership.close("over");
});

Deno.test("admissions outlive the coordinator; a use is on the disk before its worker hears of it", async () => {
  const keeper = memory(), identity = await newIdentity(), worker = await newIdentity();
  const first = await door({ keeper, identity }), single = await first.invite({ uses: 1 });
  assert(!keeper.text!.includes(JSON.stringify([...single.secret])), "only the public half is kept");
  let left: number | undefined;
  const write = keeper.write.bind(keeper);
  keeper.write = (text) => {
    left ??= JSON.parse(text).invites.length;
    assertEquals(first.membership.members, []);
    return write(text);
  };
  assertEquals(said(await first.knock(single, worker, "a"))[0].type, "welcome");
  assertEquals(left, 0);
  keeper.write = write;
  await first.membership.revoke("a");
  first.membership.close("over");
  const second = await door({ keeper, identity });
  assertStringIncludes((await second.knock(single, worker, "a")).refused!, "revoked");
  assertStringIncludes((await second.knock(single, await newIdentity(), "b")).refused!, "not valid");
  second.membership.close("over");
});

Deno.test("a damaged list of admissions stops the coordinator, not its locks", async () => {
  const { clock, identity } = await door();
  for (const text of ["", "{", "[]", '{"version":2,"invites":[],"workers":[]}']) {
    await assertRejects(
      () => Admission.open({ runtime: clock, identity, mesh: "m", keeper: memory(text) }),
      AdmissionError,
      "is damaged",
    );
  }
});
