/** The coordinator's port: who is let near it, what every answer carries, and that its secrets stay where they are. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Admission } from "../../coordinator/admission/admission.ts";
import { Coordinator } from "../../coordinator/coordinator.ts";
import { Gate } from "../../coordinator/admission/gate.ts";
import { type CoordinatorServer, serve } from "../../coordinator/admission/server.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { limits } from "../../mesh/limits.ts";
import { WebSocketChannel } from "../../mesh/transports/websocket_channel.ts";
import { clean } from "../compliance/clean.ts";
import { door } from "./door.ts";

const runtime = denoRuntime(), SECRET = "the owner's own";

async function served(run: (server: CoordinatorServer) => Promise<void>): Promise<void> {
  const coordinator = new Coordinator({ runtime, admission: await Admission.inMemory(runtime) });
  const server = serve({
    coordinator,
    host: "127.0.0.1",
    port: 0,
    names: ["mesh.example"],
    runs: "/",
    isOwner: (token) => token === SECRET,
    invite: () => Promise.resolve("volary:x"),
    channel: (socket) => new WebSocketChannel(socket, runtime),
    page: (path) => Promise.resolve(path === "/" ? { type: "text/html", text: "<p>page</p>" } : undefined),
  });
  try {
    await run(server);
  } finally {
    await server.close();
  }
}

/** A request as bytes, as `fetch` chooses its own Host and Origin. Answers with what came back. */
async function ask(port: number, first: string, headers: Record<string, string>, body = ""): Promise<string> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const lines = Object.entries({ connection: "close", ...headers }).map(([name, value]) =>
    `${name}: ${value}`
  );
  await connection.write(
    new TextEncoder().encode(`${[`${first} HTTP/1.1`, ...lines].join("\r\n")}\r\n\r\n${body}`),
  );
  let text = "";
  const buffer = new Uint8Array(8_192), decoder = new TextDecoder();
  for (let count; (count = await connection.read(buffer)) !== null;) {
    text += decoder.decode(buffer.subarray(0, count));
    if ("upgrade" in headers && text.includes("\r\n\r\n")) break;
  }
  return text;
}

const upgrade = {
  connection: "upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
};

Deno.test("a foreign Host or Origin is refused, for the WebSocket too", clean, async () => {
  await served(async ({ port }) => {
    const bearer = { authorization: `Bearer ${SECRET}` }, host = `127.0.0.1:${port}`;
    const cases: [Record<string, string>, number][] = [
      [{ host }, 200],
      [{ host: `localhost:${port}` }, 200],
      [{ host: "mesh.example" }, 200],
      [{ host, origin: `http://${host}` }, 200],
      [{ host: "mesh.example", origin: "https://mesh.example" }, 200],
      [{ host: `evil.example:${port}` }, 421],
      [{ host: "127.0.0.1.evil.example" }, 421],
      [{ host, origin: "https://evil.example" }, 403],
      [{ host, origin: "null" }, 403],
      [{ host: "mesh.example", origin: `http://${host}` }, 403],
    ];
    for (const [headers, status] of cases) {
      for (const [first, more] of [["GET /status", bearer], ["GET /", {}]] as const) {
        const answer = await ask(port, first, { ...headers, ...more });
        assertStringIncludes(answer, `HTTP/1.1 ${status} `, JSON.stringify(headers));
      }
      const socket = await ask(port, "GET /mesh", { ...headers, ...upgrade });
      assertStringIncludes(socket, `HTTP/1.1 ${status === 200 ? 101 : status} `, JSON.stringify(headers));
    }
  });
});

Deno.test("every method needs the owner's token, and every answer has the headers", clean, async () => {
  await served(async ({ port }) => {
    const host = `127.0.0.1:${port}`;
    const methods = [
      "GET /status",
      "GET /workers",
      "POST /stop",
      "POST /run",
      "POST /approve",
      "POST /revoke",
    ];
    for (const first of [...methods, "POST /invite", "GET /nothing"]) {
      for (const authorization of ["", "Bearer wrong", `Basic ${SECRET}`, `Bearer ${SECRET}x`]) {
        const answer = await ask(port, first, { host, ...(authorization ? { authorization } : {}) });
        assertStringIncludes(answer, "HTTP/1.1 404 ");
        assert(!answer.includes(SECRET));
      }
      // Not as part of the address either, where logs would keep it.
      assertStringIncludes(
        await ask(port, `${first}?token=${encodeURIComponent(SECRET)}`, { host }),
        " 404 ",
      );
    }
    for (
      const [first, headers] of [["GET /", {}], ["GET /x", {}], ["GET /status", {
        authorization: `Bearer ${SECRET}`,
      }]] as const
    ) {
      const answer = (await ask(port, first, { host, ...headers })).toLowerCase();
      for (
        const line of [
          "x-content-type-options: nosniff",
          "x-frame-options: deny",
          "referrer-policy: no-referrer",
          "cache-control: no-store",
          "content-security-policy: default-src 'none'",
        ]
      ) assertStringIncludes(answer, line);
    }
  });
});

Deno.test("a body that is too large is not read, and an invite's terms are checked", clean, async () => {
  await served(async ({ port }) => {
    const headers = { host: `127.0.0.1:${port}`, authorization: `Bearer ${SECRET}` };
    const large = "x".repeat(8_192), length = { "content-length": String(large.length) };
    assertStringIncludes(await ask(port, "POST /invite", { ...headers, ...length }, large), " 400 ");
    const terms = JSON.stringify({ uses: 1, forMs: 1_000 });
    const good = await ask(
      port,
      "POST /invite",
      { ...headers, "content-length": String(terms.length) },
      terms,
    );
    assertStringIncludes(good, "volary:x");
  });
});

Deno.test("one address holds so many connections and no more; this machine, or a proxy on it, is not counted", () => {
  const gate = new Gate([]), leaves: ((() => void) | undefined)[] = [];
  for (let i = 0; i < limits.socketsOfAddress; i++) leaves.push(gate.enter("192.0.2.1", "socket"));
  assert(leaves.every((leave) => leave !== undefined));
  assertEquals(gate.enter("192.0.2.1", "socket"), undefined);
  assert(gate.enter("192.0.2.2", "socket") !== undefined && gate.enter("192.0.2.1", "request") !== undefined);
  leaves[0]!();
  leaves[0]!(); // twice is once
  assert(gate.enter("192.0.2.1", "socket") !== undefined);
  assertEquals(gate.enter("192.0.2.1", "socket"), undefined);
  for (let i = 0; i <= limits.socketsOfAddress; i++) assert(gate.enter("::ffff:127.0.0.1", "socket"));
});

Deno.test("a flood from one address takes no place of another's", clean, async () => {
  const { membership, clock, invite, knock } = await door();
  const { memoryChannelPair } = await import("../../mesh/transports/memory_transport.ts");
  const [honest, waiting] = memoryChannelPair();
  let gone = false;
  waiting.closed.then(() => gone = true);
  membership.admit(honest, "192.0.2.9");
  for (let i = 0; i < 2_000; i++) membership.admit(memoryChannelPair()[0], "192.0.2.1");
  await clock.pass(1);
  assertEquals(membership.halfOpen, limits.halfOpenOfAddress + 1);
  assert(!gone);
  const joined = await knock(await invite(), await newIdentity(), "honest");
  assertEquals(joined.refused, undefined);
  membership.close("over");
});
