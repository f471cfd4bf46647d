import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { LinkError } from "../../mesh/errors.ts";
import { limits } from "../../mesh/limits.ts";
import { WebSocketChannel, webSocketChannel } from "../../mesh/transports/websocket_channel.ts";
import { clean } from "../compliance/clean.ts";

const clock = denoRuntime();

/** A client's and a server's end over a real socket. */
async function ends<T>(run: (client: WebSocketChannel, server: WebSocketChannel) => Promise<T>): Promise<T> {
  let accept!: (channel: Promise<WebSocketChannel>) => void;
  const accepted = new Promise<WebSocketChannel>((resolve) => accept = resolve);
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    accept(webSocketChannel(socket, clock));
    return response;
  });
  const client = await webSocketChannel(new WebSocket(`ws://127.0.0.1:${server.addr.port}`), clock);
  const other = await accepted;
  try {
    return await run(client, other);
  } finally {
    client.close();
    other.close();
    await Promise.all([client.closed, other.closed]);
    await server.shutdown();
  }
}

Deno.test("messages of 0 bytes to beyond what a WebSocket message may hold, both ways", clean, async () => {
  await ends(async (client, server) => {
    for (const [from, to] of [[client, server], [server, client]]) {
      const lengths = [0, 1, limits.webSocketBytes - 1, limits.webSocketBytes, 3, 90 << 20, 5];
      const got: Uint8Array[] = [];
      let parts = 0;
      const done = new Promise<void>((resolve) => {
        to.onactivity = () => parts++;
        to.onmessage = (message) => {
          got.push(message);
          if (got.length === lengths.length) resolve();
        };
      });
      for (const length of lengths) {
        const message = new Uint8Array(length);
        for (let i = 0; i < length; i += 1_021) message[i] = i >> 3;
        from.send(message);
      }
      await done;
      await from.drained(0);
      assertEquals(got.map(({ length }) => length), lengths);
      for (const message of got) {
        for (let i = 0; i < message.length; i += 1_021) assert(message[i] === (i >> 3 & 255));
      }
      assert(parts >= 90);
    }
  });
});

Deno.test("a message beyond the bound closes the connection with the reason", clean, async () => {
  await ends(async (client, server) => {
    server.acceptBytes = limits.strangerBytes;
    client.send(new Uint8Array(limits.strangerBytes + 1));
    assertStringIncludes(await client.closed, "more than 65536");
  });
});

Deno.test("reasons reach the other end, shortened between characters", clean, async () => {
  await ends(async (client, server) => {
    client.close("重".repeat(100));
    assertEquals(await server.closed, "重".repeat(41));
    try {
      server.send(new Uint8Array(1));
      assert(false, "sent on a closed connection");
    } catch (error) {
      assert(error instanceof LinkError);
    }
  });
});

Deno.test(
  "a client's messages are answered by the socket itself, so that nothing waits for an acknowledgement",
  clean,
  async () => {
    const kinds: number[] = [];
    let count = 0, all!: () => void;
    const came = new Promise<void>((resolve) => all = resolve);
    const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      const channel = new WebSocketChannel(socket, clock);
      channel.onmessage = (message) => {
        if (++count === 2) channel.send(message);
      };
      return response;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}`);
    const client = await webSocketChannel(socket, clock);
    socket.addEventListener("message", ({ data }) => {
      kinds.push(new Uint8Array(data)[0]);
      if (kinds.at(-1) === 1) all();
    });
    const echo = new Promise<number>((resolve) => client.onmessage = (message) => resolve(message.length));
    client.send(new Uint8Array(10)); // asks in its own piece
    client.send(new Uint8Array(5_000)); // is asked for ahead of it
    assertEquals(await echo, 5_000);
    await came;
    // An answer is 4, the last piece of the echo 1; answers that would queue behind others are left out.
    assertEquals(kinds.filter((kind) => kind !== 4), [1]);
    assert(kinds[0] === 4, "the first message was not answered");
    client.close();
    await client.closed;
    await server.shutdown();
  },
);

Deno.test("text, foreign pieces and nobody at the address", clean, async () => {
  let say!: (socket: WebSocket) => void;
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.onopen = () => say(socket);
    return response;
  });
  const url = `ws://127.0.0.1:${server.addr.port}`;
  for (const message of ["text", new Uint8Array(0), Uint8Array.of(7, 1), Uint8Array.of(0)]) {
    say = (socket) => socket.send(message);
    const client = await webSocketChannel(new WebSocket(url), clock);
    assertStringIncludes(await client.closed, "no piece");
  }
  await server.shutdown();
  await assertRejects(
    () => webSocketChannel(new WebSocket(url), clock),
    LinkError,
    "Cannot open a connection to ws://127",
  );
});
