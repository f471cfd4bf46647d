/** A coordinator with a certificate of its own: workers and the owner's verbs over it, and what is wrong with bad files. */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { objects } from "../../cli/lines.ts";
import { start, volary } from "./program.ts";
import { certificateArguments } from "../running.ts";

const folder = await Deno.makeTempDir(), cert = join(folder, "cert.pem"), key = join(folder, "key.pem");
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));

/** Makes a certificate for localhost; false where there is no openssl. */
async function certificate(): Promise<boolean> {
  try {
    const { success } = await new Deno.Command("openssl", {
      args: certificateArguments("localhost", "DNS:localhost", { key, cert }),
      stderr: "null",
    }).output();
    await Deno.chmod(key, 0o600);
    return success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
const ignore = !await certificate(), state = join(folder, "state");

Deno.test({
  name: "over TLS: doctor reaches the coordinator, the owner's verbs work, plain HTTP does not",
  ignore,
  async fn() {
    // A port of its own must be known beforehand, as the certificate's name is said with it.
    const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = probe.addr as Deno.NetAddr;
    probe.close();
    const up = start([
      ...["up", "--port", String(port), "--public", `wss://localhost:${port}`, "--state", state, "--json"],
      ...["--tls-cert", cert, "--tls-key", key],
    ]);
    const said = new Response(up.stderr).text();
    try {
      const { value } = await objects(up.stdout).next(), invite = String(value!.invite);
      assertEquals(value!.address, `https://localhost:${port}`);
      const env = { DENO_CERT: cert };
      const doctor = await start(["doctor", invite, "--key", join(folder, "w.key")], undefined, [], env)
        .output();
      const told = new TextDecoder().decode(doctor.stderr);
      assertMatch(told, /ok\s+coordinator\s+localhost:\d+ \(.*answers in/);
      assertMatch(told, /ok\s+road\s+localhost:\d+: [\d.]+ ms there and back/);
      assertEquals((await volary("workers", "--state", state)).code, 0);
      await fetch(`http://127.0.0.1:${port}/`).then(
        () => Promise.reject(new Error("plain HTTP was answered")),
        () => {},
      );
    } finally {
      up.kill("SIGKILL");
      await Promise.all([up.status, up.stdout.cancel().catch(() => {}), said]);
    }
  },
});

Deno.test({
  name: "a key that others may read, files that are none, a name that is missing",
  ignore,
  async fn() {
    const common = ["up", "--port", "0", "--state", state], name = ["--public", "wss://localhost:1"];
    const cases: [string[], RegExp, number][] = [
      [["--tls-cert", cert, "--tls-key", key], /say it with --public/, 2],
      [[...name, "--tls-cert", cert], /go together/, 2],
      [[...name, "--tls-cert", join(folder, "none"), "--tls-key", key], /Cannot read .*none/, 1],
      [[...name, "--tls-cert", key, "--tls-key", key], /do not go together, or are no PEM/, 1],
      [["--public", "ftp://localhost"], /--public takes an address/, 2],
    ];
    for (const [args, says, code] of cases) {
      const result = await volary(...common, ...args);
      assertMatch(result.stderr, says);
      assertEquals(result.code, code);
    }
    await Deno.chmod(key, 0o644);
    const open = await volary(...common, ...name, "--tls-cert", cert, "--tls-key", key);
    await Deno.chmod(key, 0o600);
    assertMatch(open.stderr, /may use .*key\.pem \(mode 644\).*chmod 600/s);
  },
});
