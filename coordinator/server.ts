/**
 * The coordinator's door: workers come in by a WebSocket at /mesh and must prove there who they are and that they were
 * invited; the owner's requests carry the owner's secret. Everyone else gets an empty 404.
 *
 * @module
 */
import type { Channel } from "../mesh/runtime.ts";
import type { Coordinator } from "./coordinator.ts";
import type { z } from "zod";
import type { InviteTerms } from "./admission.ts";
import { CoordinatorError, ServerError } from "./errors.ts";
import { isKnown } from "./run.ts";
import { InviteBody, RunBody, type RunLine, WorkerBody } from "./owner_protocol.ts";

export interface ServerOptions {
  readonly coordinator: Coordinator;
  /** Address to listen on; loopback unless its user says otherwise. */
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Absolute path of the folder of all runs. */
  readonly runs: string;
  /** Whether a bearer token is the owner's; takes the same time for every wrong one. */
  readonly isOwner: (token: string) => boolean | Promise<boolean>;
  /** Makes an invite to this server. */
  readonly invite: (terms: InviteTerms) => Promise<string>;
  /** Makes a channel of an upgraded socket. */
  readonly channel: (socket: WebSocket) => Channel;
}

/** A server that listens. */
export interface CoordinatorServer {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Bytes of any other body: a name or two numbers. */
const mostBody = 4 << 10;
/** Bytes of a recipe: text that a person wrote. */
const mostRecipe = 1 << 20;

/** Listens. Throws {@linkcode ServerError} where the port is taken or the address is not this machine's. */
export function serve(options: ServerOptions): CoordinatorServer {
  const { host, port, coordinator } = options;
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve(
      { hostname: host, port, onListen: () => {}, onError: failure },
      (request) => route(request, options),
    );
  } catch (error) {
    throw explain(error, host, port);
  }
  return {
    host,
    port: server.addr.port,
    async close() {
      await coordinator.close("the coordinator ended");
      await server.shutdown();
    },
  };
}

async function route(request: Request, options: ServerOptions): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/mesh" && request.headers.get("upgrade")?.toLowerCase() === "websocket") {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    options.coordinator.admit(options.channel(socket));
    return response;
  }
  const token = request.headers.get("authorization")?.match(/^Bearer (.{1,512})$/)?.[1];
  if (token === undefined || !await options.isOwner(token)) return new Response(null, { status: 404 });
  switch (`${request.method} ${pathname}`) {
    case "GET /status":
      return Response.json(options.coordinator.status());
    case "POST /stop":
      return Response.json({ stopped: await options.coordinator.stop() });
    case "POST /run":
      return await startRun(request, options);
    case "POST /links":
      return await told(() => options.coordinator.measureLinks());
    case "GET /workers":
      return Response.json(options.coordinator.membership.known);
    case "POST /approve":
      return await answer(
        request,
        WorkerBody,
        ({ worker }) => options.coordinator.membership.approve(worker),
      );
    case "POST /revoke":
      return await answer(request, WorkerBody, ({ worker }) => options.coordinator.membership.revoke(worker));
    case "POST /invite":
      return await answer(request, InviteBody, async (terms) => ({ invite: await options.invite(terms) }));
  }
  return new Response(null, { status: 404 });
}

/** Does what a body asks for. */
async function answer<S extends z.ZodType>(
  request: Request,
  schema: S,
  act: (body: z.output<S>) => Promise<unknown>,
): Promise<Response> {
  const text = await request.text();
  const body = text.length > mostBody ? undefined : schema.safeParse(parseJson(text));
  if (!body?.success) return new Response(null, { status: 400 });
  return await told(() => act(body.data));
}

/** What an act answers. What its user can put right is told with status 409. */
async function told(act: () => Promise<unknown>): Promise<Response> {
  try {
    return Response.json(await act(), { headers: { "cache-control": "no-store" } });
  } catch (error) {
    if (!(error instanceof CoordinatorError)) throw error;
    return Response.json({ message: error.message }, { status: 409 });
  }
}

/** Runs a recipe and streams its events, one JSON object a line. The run goes on when the reader goes away. */
async function startRun(request: Request, { coordinator, runs }: ServerOptions): Promise<Response> {
  const text = await request.text();
  if (text.length > mostRecipe) return new Response(null, { status: 413 });
  const body = RunBody.safeParse(parseJson(text));
  if (!body.success) return new Response(null, { status: 400 });
  const { recipe, base, resume, resumeCommand, workers } = body.data;
  const encoder = new TextEncoder();
  let reader: ReadableStreamDefaultController<Uint8Array> | undefined;
  const tell = (line: RunLine) => reader?.enqueue(encoder.encode(JSON.stringify(line) + "\n"));
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      reader = controller;
      const resolve = (path: string) =>
        path.startsWith("/") || /^[A-Za-z]:[\\/]/.test(path) ? path : `${base}/${path}`;
      coordinator.run({ recipe, resolve, runs, resume, resumeCommand }, { workers, tell })
        .catch((error) => {
          if (!(error instanceof Error)) throw error;
          const bug = isKnown(error) ? {} : { stack: error.stack ?? String(error) };
          tell({ event: "error", name: error.name, message: error.message, ...bug });
        })
        .finally(() => {
          reader?.close();
          reader = undefined;
        });
    },
    cancel() {
      reader = undefined;
    },
  });
  return new Response(stream, {
    headers: { "content-type": "application/jsonl", "cache-control": "no-store" },
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function failure(error: unknown): Response {
  console.error(error);
  return new Response(null, { status: 500 });
}

function explain(error: unknown, host: string, port: number): unknown {
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
  return error;
}
