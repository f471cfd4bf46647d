/**
 * What a coordinator's owner asks for over HTTP, once the owner's secret was shown.
 *
 * @module
 */
import type { z } from "zod";
import { limits } from "../../mesh/limits.ts";
import type { InviteTerms } from "./admission.ts";
import type { Coordinator } from "../coordinator.ts";
import { CoordinatorError, isKnown } from "../errors.ts";
import { InviteBody, RunBody, type RunLine, WorkerBody } from "./owner_protocol.ts";

/** What the requests act on. */
export interface OwnerOptions {
  readonly coordinator: Coordinator;
  /** Absolute path of the folder of all runs. */
  readonly runs: string;
  /** Makes an invite to this server. */
  readonly invite: (terms: InviteTerms) => Promise<string>;
}

/** Bytes of any other body: a name or two numbers. */
const mostBody = 4 << 10;
/** Bytes of a recipe: text that a person wrote. */
const mostRecipe = 1 << 20;

/** Answers a request of the owner. */
export async function answerOwner(request: Request, options: OwnerOptions): Promise<Response> {
  const { pathname } = new URL(request.url), { coordinator } = options;
  switch (`${request.method} ${pathname}`) {
    case "GET /status":
      return Response.json(coordinator.status());
    case "POST /stop":
      return Response.json({ stopped: await coordinator.stop() });
    case "POST /run":
      return await startRun(request, options);
    case "POST /links":
      return await told(() => coordinator.measureLinks());
    case "GET /workers":
      return Response.json(coordinator.membership.known);
    case "POST /approve":
      return await answer(request, WorkerBody, ({ worker }) => coordinator.membership.approve(worker));
    case "POST /revoke":
      return await answer(request, WorkerBody, ({ worker }) => coordinator.membership.revoke(worker));
    case "POST /invite":
      return await answer(request, InviteBody, async (terms) => ({ invite: await options.invite(terms) }));
  }
  return new Response(null, { status: 404 });
}

/** A body of at most `most` bytes that comes in time, as text; undefined: larger, or later. */
async function bodyOf(request: Request, most: number): Promise<string | undefined> {
  const decoder = new TextDecoder();
  let text = "", bytes = 0;
  try {
    const late = AbortSignal.timeout(limits.connectMs);
    await request.body?.pipeTo(
      new WritableStream({
        write(piece) {
          if ((bytes += piece.length) > most) throw new RangeError("too large");
          text += decoder.decode(piece, { stream: true });
        },
      }),
      { signal: late },
    );
  } catch {
    return undefined;
  }
  return text + decoder.decode();
}

/** Does what a body asks for. */
async function answer<S extends z.ZodType>(
  request: Request,
  schema: S,
  act: (body: z.output<S>) => Promise<unknown>,
): Promise<Response> {
  const text = await bodyOf(request, mostBody),
    body = text === undefined ? undefined : schema.safeParse(parseJson(text));
  if (!body?.success) return new Response(null, { status: 400 });
  return await told(() => act(body.data));
}

/** What an act answers. What its user can put right is told with status 409. */
async function told(act: () => Promise<unknown>): Promise<Response> {
  try {
    return Response.json(await act());
  } catch (error) {
    if (!(error instanceof CoordinatorError)) throw error;
    return Response.json({ message: error.message }, { status: 409 });
  }
}

/** Runs a recipe and streams its events, one JSON object a line. The run goes on when the reader goes away. */
async function startRun(request: Request, { coordinator, runs }: OwnerOptions): Promise<Response> {
  const text = await bodyOf(request, mostRecipe);
  if (text === undefined) return new Response(null, { status: 413 });
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
  return new Response(stream, { headers: { "content-type": "application/jsonl" } });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
