/** Invites, keys and their verbs as people use them: processes, exit codes, one paragraph, and no secret in any word. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { base64url } from "../../mesh/identity/base64url.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { formatInvite, newInvite, parseInvite } from "../../mesh/identity/invite.ts";
import { objects } from "../../cli/lines.ts";
import { start, volary } from "./program.ts";
import { joinArguments } from "../running.ts";

interface Process {
  readonly child: Deno.ChildProcess;
  /** The next event of a name. */
  next(event: string): Promise<Record<string, unknown>>;
  /** What it wrote to stderr so far. */
  said(): string;
}

/** Everything that any process of this test wrote. */
const words: string[] = [];

function launch(...args: string[]): Process {
  const child = start([...args, "--json"]), events = objects(child.stdout);
  let said = "";
  (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      said += text;
      words.push(text);
    }
  })();
  return {
    child,
    said: () => said,
    async next(name) {
      for (let got = await events.next(); !got.done; got = await events.next()) {
        words.push(JSON.stringify(got.value));
        if (got.value.event === name) return got.value;
      }
      throw new Error(`it ended before "${name}": ${said}`);
    },
  };
}

async function ask(
  ...args: string[]
): Promise<{ code: number; text: string; json: Record<string, unknown> }> {
  const { code, stdout, stderr } = await volary(...args, "--json");
  words.push(stdout, stderr);
  const line = stdout.trim().split("\n").at(-1) || "{}";
  return { code, text: stderr.trim(), json: JSON.parse(line) };
}

Deno.test("an invite for one, a revoked worker, an approved one; files for their owner; secrets stay secret", async () => {
  const folder = await Deno.makeTempDir(), state = join(folder, "state"), running: Process[] = [];
  const run = (...args: string[]) => {
    const process = launch(...args);
    running.push(process);
    return process;
  };
  const joining = (invite: string, name: string) => joinArguments(invite, name, folder);
  try {
    const up = run("up", "--port", "0", "--state", state, "--invites", "1", "--expires", "2h");
    const invite = String((await up.next("up")).invite);
    const left = run(...joining(invite, "left"));
    await left.next("joined");

    const late = await ask(...joining(invite, "late"));
    assertEquals(late.code, 1);
    assertMatch(late.text, /^The invite is not valid here: it was used up/);
    const more = String(
      (await ask("invite", "--uses", "2", "--expires", "30m", "--state", state)).json.invite,
    );
    assert(more !== invite);
    const right = run(...joining(more, "right"));
    await right.next("joined");

    const listed = async () =>
      ((await ask("workers", "--state", state)).json.workers as Record<string, unknown>[])
        .map(({ worker, state, joined }) => [worker, state, joined]);
    assertEquals(await listed(), [["left", "admitted", true], ["right", "admitted", true]]);

    assertEquals((await ask("revoke", "left", "--state", state)).code, 0);
    assertEquals((await left.child.status).code, 1);
    assertStringIncludes(left.said(), "The coordinator's owner has revoked this worker.");
    const again = await ask(...joining(invite, "left"));
    assertEquals([again.code, again.text], [1, "The coordinator's owner has revoked this worker."]);
    assertEquals(await listed(), [["left", "revoked", false], ["right", "admitted", true]]);

    assertEquals((await ask("approve", "left", "--state", state)).code, 0);
    const back = run(...joining(invite, "left"));
    await back.next("joined");
    const nobody = await ask("revoke", "nobody", "--state", state);
    assertEquals(nobody.code, 1);
    assertMatch(nobody.text, /^No worker is called nobody/);

    if (Deno.build.os !== "windows") {
      for (const name of ["coordinator.key", "coordinator.json", "admissions.json"]) {
        assertEquals((await Deno.stat(join(state, name))).mode! & 0o777, 0o600, name);
      }
      // What others may read is not used, by the worker, by doctor, by the coordinator's owner.
      const key = join(folder, "late.key");
      await Deno.chmod(key, 0o644);
      const open = await ask(...joining(more, "late"));
      assertEquals(open.code, 1);
      assertMatch(open.text, /may use .*late\.key \(mode 644\).*chmod 600/);
      assert(!open.text.includes("\n"), open.text);
      await Deno.chmod(key, 0o000);
      assertMatch(
        (await ask(...joining(more, "late"))).text,
        /^This user may not read .*late\.key.*chmod 600/,
      );
      await Deno.chmod(join(state, "coordinator.json"), 0o644);
      assertMatch((await ask("workers", "--state", state)).text, /coordinator\.json \(mode 644\)/);
      await Deno.chmod(join(state, "coordinator.json"), 0o600);
    }

    // Nothing that opens anything stands in what was printed, but for the invites themselves.
    const { owner } = JSON.parse(await Deno.readTextFile(join(state, "coordinator.json")));
    const seed = async (path: string) => {
      await Deno.chmod(path, 0o600);
      return (await Deno.readTextFile(path)).trim().split(" ")[1];
    };
    const secrets = [
      owner,
      await seed(join(state, "coordinator.key")),
      await seed(join(folder, "left.key")),
      await seed(join(folder, "late.key")),
      ...[invite, more].map((line) => base64url(parseInvite(line).secret)),
    ];
    const kept = await Deno.readTextFile(join(state, "admissions.json"));
    for (const secret of secrets) {
      assert(secret.length >= 43);
      const printed = words.join("\n").replaceAll(invite, "INVITE").replaceAll(more, "INVITE");
      assert(!printed.includes(secret), "a secret was printed");
      assert(!kept.includes(secret), "a secret is kept where it need not be");
    }
    const shown = words.filter((text) => text.includes(invite.slice("volary:".length)));
    assertEquals(shown.length, 2, "once as JSON, once for people");
  } finally {
    for (const { child } of running.reverse()) {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await child.status;
    }
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("doctor names a key that others may read and a coordinator that nobody reaches", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const key = join(folder, "worker.key"), listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    await Deno.writeTextFile(key, "", { mode: 0o600 });
    await Deno.chmod(key, 0o644);
    const coordinator = (await newIdentity()).publicKey, expires = Date.now() + 3_600_000;
    const invite = formatInvite(
      newInvite(denoRuntime(), { address: `ws://127.0.0.1:${port}`, coordinator, expires }),
    );
    const { code, text } = await ask("doctor", invite, "--key", key);
    // With --json the findings are on stdout; for people they would be here.
    assertEquals([code, text], [1, ""]);
    const findings = words.at(-2)!.trim().split("\n").map((line) => JSON.parse(line));
    const found = (check: string) => findings.find((finding) => finding.check === check);
    assertEquals([found("key").ok, found("coordinator").ok, found("webrtc").ok], [false, false, true]);
    assertEquals(found("road"), undefined); // there is none to measure
    assertMatch(found("key").found, /\(mode 644\).*chmod 600/);
    assertMatch(
      found("coordinator").found,
      /^Cannot reach the coordinator at 127\.0\.0\.1:\d+.*Is `volary up` running there/,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("up: a coordinator's key that others may read, a wrong time", async () => {
  const state = await Deno.makeTempDir();
  try {
    for (const time of ["soon", "0h", "9y", "2 weeks"]) {
      const { code, text } = await ask("up", "--port", "0", "--state", state, "--expires", time);
      assertEquals([code, text.split(" ").slice(0, 3).join(" ")], [2, "--expires takes a"]);
    }
    if (Deno.build.os === "windows") return;
    await Deno.writeTextFile(join(state, "coordinator.key"), "volary-key-1 x", { mode: 0o644 });
    await Deno.chmod(join(state, "coordinator.key"), 0o644);
    const { code, text } = await ask("up", "--port", "0", "--state", state);
    assertEquals(code, 1);
    assertMatch(text, /coordinator\.key \(mode 644\): whoever can read it/);
  } finally {
    await Deno.remove(state, { recursive: true });
  }
});
