/**
 * The coordinator's door: workers come in by a WebSocket at /mesh and must prove there who they are and that they were
 * invited; the owner's requests carry the owner's secret; anybody may read the page by which a browser joins. Everyone else
 * gets an empty 404. What holds for every request, whoever sends it, is in gate.ts.
 *
 * @module
 */
import { ENDED_IN_ORDER } from "../../mesh/control/control.ts";
import type { Channel } from "../../mesh/runtime.ts";
import { ServerError } from "../errors.ts";
import { Gate, loopback, secured } from "./gate.ts";
import { answerOwner, type OwnerOptions } from "./owner_requests.ts";

/** Where a server listens, and for whom. */
export interface ServerOptions extends OwnerOptions {
  /** Address to listen on; loopback unless its user says otherwise. */
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Names under which it is reached, beside addresses and localhost: of a proxy in front, or in the certificate. */
  readonly names?: readonly string[];
  /** PEM texts. With them this port speaks TLS alone, and the owner's requests come to another one, of loopback alone. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Whether a bearer token is the owner's; takes the same time for every wrong one. */
  readonly isOwner: (token: string) => boolean | Promise<boolean>;
  /** Makes a channel of an upgraded socket. */
  readonly channel: (socket: WebSocket) => Channel;
  /** Files for browsers, by path. */
  readonly page?: (path: string) => Promise<PageFile | undefined>;
}

/** A file of the page. */
export interface PageFile {
  readonly type: string;
  readonly text: string;
}

/** A server that listens. */
export interface CoordinatorServer {
  readonly host: string;
  readonly port: number;
  /** Where the owner's requests are heard over plain HTTP, on this machine. */
  readonly ownerPort: number;
  close(): Promise<void>;
}

type Server = Deno.HttpServer<Deno.NetAddr>;

/** Listens. Throws {@linkcode ServerError} where the port is taken, the address is not this machine's, or TLS is not to be had. */
export function serve(options: ServerOptions): CoordinatorServer {
  const { host, port, coordinator, tls } = options, gate = new Gate(options.names ?? []);
  /** Connections of workers that are open. */
  const open = new Set<Channel>();
  const connect = (socket: WebSocket) => {
    const channel = options.channel(socket);
    open.add(channel);
    channel.closed.then(() => open.delete(channel));
    return channel;
  };
  const handler = (request: Request, { remoteAddr }: Deno.ServeHandlerInfo<Deno.NetAddr>) =>
    route(request, remoteAddr.hostname, gate, { ...options, channel: connect });
  const common = { onListen: () => {}, onError: failure };
  let server: Server, local: Server | undefined;
  try {
    server = Deno.serve({ ...common, ...tls, hostname: host, port }, handler);
  } catch (error) {
    throw explain(error, options);
  }
  if (tls !== undefined) local = Deno.serve({ ...common, hostname: "127.0.0.1", port: 0 }, handler);
  return {
    host,
    port: server.addr.port,
    ownerPort: (local ?? server).addr.port,
    async close() {
      await coordinator.close(ENDED_IN_ORDER);
      // Workers hear why before the server drops whoever is still connected.
      await Promise.all([...open].map((channel) => channel.closed));
      await Promise.all([server.shutdown(), local?.shutdown()]);
    },
  };
}

async function route(request: Request, from: string, gate: Gate, options: ServerOptions): Promise<Response> {
  const status = gate.refuses(request);
  if (status !== undefined) return secured(new Response(null, { status }));
  const { pathname } = new URL(request.url), { tls, coordinator } = options;
  if (pathname === "/mesh" && request.headers.get("upgrade")?.toLowerCase() === "websocket") {
    const leave = gate.enter(from, "socket");
    if (leave === undefined) return secured(new Response(null, { status: 429 }));
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    const channel = options.channel(socket);
    channel.closed.then(leave);
    coordinator.admit(channel, loopback(from) ? undefined : from);
    return response;
  }
  const leave = gate.enter(from, "request");
  if (leave === undefined) return secured(new Response(null, { status: 429 }));
  try {
    return secured(await answer(request, pathname, options), {
      host: new URL(request.url).host,
      tls: tls !== undefined,
    });
  } finally {
    leave();
  }
}

async function answer(request: Request, pathname: string, options: ServerOptions): Promise<Response> {
  const token = request.headers.get("authorization")?.match(/^Bearer (.{1,512})$/)?.[1];
  if (token !== undefined && await options.isOwner(token)) return await answerOwner(request, options);
  const file = request.method === "GET" && token === undefined ? await options.page?.(pathname) : undefined;
  if (file === undefined) return new Response(null, { status: 404 });
  return new Response(file.text, { headers: { "content-type": file.type } });
}

function failure(error: unknown): Response {
  console.error(error);
  return new Response(null, { status: 500 });
}

function explain(error: unknown, { host, port, tls }: ServerOptions): unknown {
  if (error instanceof Deno.errors.AddrInUse) {
    return new ServerError(
      `Port ${port} on ${host} is in use. Another coordinator may be running there (see \`volary status\`); otherwise choose ` +
        "another port with --port, or --port 0 for any that is free.",
    );
  }
  if (error instanceof Deno.errors.AddrNotAvailable) {
    return new ServerError(
      `${host} is not an address of this machine. Choose one with --host, or 0.0.0.0 for all of them.`,
    );
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return new ServerError(
      `This user may not listen on port ${port} of ${host}; choose a port above 1023 with --port.`,
    );
  }
  if (tls !== undefined && error instanceof Error && /certificate|key|PEM|tls/i.test(error.message)) {
    return new ServerError(
      `The certificate and key do not go together, or are no PEM files (${error.message}). Give the whole chain with --tls-cert ` +
        "and its private key with --tls-key.",
    );
  }
  return error;
}
