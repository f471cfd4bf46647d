/**
 * `volary up`: starts a coordinator.
 *
 * @module
 */
import { join, resolve } from "@std/path";
import { Admission, type InviteTerms } from "../coordinator/admission/admission.ts";
import { Coordinator } from "../coordinator/coordinator.ts";
import type { MemberEvent } from "../coordinator/member.ts";
import { Paces } from "../coordinator/planner/paces.ts";
import type { CoordinatorFile } from "../coordinator/admission/owner_protocol.ts";
import { quantity } from "../coordinator/amounts.ts";
import { type CoordinatorServer, serve, type ServerOptions } from "../coordinator/admission/server.ts";
import { loopback } from "../coordinator/admission/gate.ts";
import { base64url } from "../mesh/identity/base64url.ts";
import { type HeldKey, holdKey, readOwn, writeOwn } from "../mesh/identity/deno_key_file.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { fingerprint } from "../mesh/identity/identity.ts";
import { sameSecret } from "../mesh/identity/secret.ts";
import type { Clock } from "../mesh/runtime.ts";
import { WebSocketChannel } from "../mesh/transports/websocket_channel.ts";
import { coordinatorFile, DEFAULT_STATE } from "./client.ts";
import { onInterrupt } from "./interrupt.ts";
import { pageFiles } from "./page.ts";
import { DEFAULT_TERMS, termsOf } from "./terms.ts";
import { grantsOf } from "./turn.ts";
import { CommandError, printJson, readFlags, say, UsageError, type Verb } from "./verb.ts";

const DEFAULT_PORT = 7450;
/** Between two refusals that are told. */
const CALM_MS = 1_000;

export const verb: Verb = {
  name: "up",
  summary: "start a coordinator and print how to join it",
  help:
    `volary up [--port ${DEFAULT_PORT}] [--host 127.0.0.1] [--state ${DEFAULT_STATE}] [--invites ${DEFAULT_TERMS.uses}] [--expires ${DEFAULT_TERMS.expires}]
          [--approve] [--public URL] [--tls-cert FILE --tls-key FILE] [--turn URL --turn-secret-file FILE]
          [--json]

Starts a coordinator: workers join it, and \`volary run\` gives it something to do. It runs until
Ctrl-C; a run under way is saved first. Workers that were admitted once join again without an
invite's use; see \`volary workers\`.

  --port N          port to listen on; 0 takes any that is free
  --host ADDRESS    address to listen on; only this machine unless you say otherwise
                    (0.0.0.0: everywhere)
  --public URL      how others reach it, for instance wss://mesh.example: through a proxy in front,
                    or by the certificate's name
  --tls-cert FILE   the certificate and its chain, PEM; with --tls-key the port speaks TLS
  --tls-key FILE    the certificate's private key, PEM, readable by you only
  --turn URL        a TURN server for workers that do not reach each other: turn:HOST:PORT, with
                    ?transport=tcp over TCP, or turns:HOST:PORT. Each gets a name and a password of
                    its own, good for an hour and renewed
  --turn-secret-file FILE
                    the secret that the server makes them from (coturn: static-auth-secret),
                    readable by you only
  --state FOLDER    where runs are kept and, readable by you only, coordinator.key (what makes it
                    this coordinator), admissions.json (whom it let in), paces.json (how fast
                    workers and links turned out) and coordinator.json (address and owner's secret)
  --invites N       workers that the printed invite admits; 1: a single one (\`volary invite\` makes
                    more)
  --expires TIME    how long the invite is good, for instance 30m, 2h or 7d
  --approve         a worker with an invite waits until you say \`volary approve WORKER\`
  --json            one JSON object a line on stdout: "up" with the invite, then "joined" and "left"`,
  examples: [
    "up",
    "up --host 0.0.0.0 --invites 3 --expires 2h",
    "up --public wss://mesh.example:7450 --tls-cert chain.pem --tls-key key.pem",
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json", "approve"],
      string: [
        "port",
        "host",
        "state",
        "invites",
        "expires",
        "public",
        "tls-cert",
        "tls-key",
        "turn",
        "turn-secret-file",
      ],
    });
    const outside = publicOf(flags.text("public")), tls = await tlsOf(flags);
    if (tls !== undefined && outside?.protocol !== "wss:") {
      throw new UsageError("A certificate is good for its name: say it with --public wss://NAME:PORT.");
    }
    const port = flags.number("port", { min: 0, max: 65_535, integer: true }) ?? DEFAULT_PORT;
    const terms = termsOf(flags, "invites"), turn = await grantsOf(flags, say);
    const host = flags.text("host") ?? "127.0.0.1", state = flags.text("state") ?? DEFAULT_STATE;
    const json = flags.has("json");
    const runtime = denoRuntime(), runs = resolve(state);
    const owner = base64url(runtime.random(32));
    await Deno.mkdir(runs, { recursive: true });
    await refuseSecond(state);
    const key = await holdKey(join(runs, "coordinator.key"), runtime),
      admissions = join(runs, "admissions.json");
    const admission = await Admission.open({
      runtime,
      identity: key.identity,
      keeper: { read: () => readOwn(admissions), write: (text) => writeOwn(admissions, text) },
      approve: flags.has("approve"),
      mesh: "volary",
    });
    const paces = join(runs, "paces.json");
    const tell = calmly(runtime, (event) => say(memberText(event)));
    const coordinator = new Coordinator({
      runtime,
      admission,
      turn,
      paces: await Paces.open({ read: () => readOwn(paces), write: (text) => writeOwn(paces, text) }),
      onmember: (event) => {
        if (json) printJson(event);
        else tell(event);
      },
    });
    // Invites name the port, which is known once the server listens.
    const invite = (terms: InviteTerms): Promise<string> =>
      admission.invite(outside?.href ?? `ws://${reachable(host)}:${server.port}/mesh`, terms);
    const server = await listening(key, {
      coordinator,
      host,
      port,
      tls,
      names: outside === undefined ? [] : [outside.hostname],
      runs,
      isOwner: (given) => sameSecret(runtime, given, owner),
      invite,
      channel: (socket) => new WebSocketChannel(socket, runtime),
      page: pageFiles(say),
    });
    const address = outside?.href.replace(/^ws(.*)\/mesh$/, "http$1") ??
      `http://${reachable(host)}:${server.port}`;
    const print = fingerprint(key.identity.publicKey);
    const file: CoordinatorFile = {
      version: 1,
      address: local(tls === undefined ? host : "127.0.0.1", server.ownerPort),
      owner,
      runs,
      pid: Deno.pid,
    };
    await writeOwn(coordinatorFile(state), JSON.stringify(file, null, 2) + "\n");
    const line = await invite(terms);
    const page = `${address}/#${line}`;
    if (json) printJson({ event: "up", address, invite: line, page, state: runs, fingerprint: print });
    const here = outside === undefined && (loopback(host) || host === "localhost");
    const where = here
      ? "On this machine (with --host 0.0.0.0 on others too)"
      : "On every machine that helps";
    // Browsers give a page their GPU and their keys where it came over TLS or from their own machine.
    const browser = here || address.startsWith("https:")
      ? `Or in a browser${here ? " on this machine" : ""}:\n\n  ${page}\n\n`
      : "Browsers join over https:// only: see --public.\n\n";
    say(
      `Coordinator ${print} at ${address}, runs in ${state}. ${where}, once for each GPU:\n\n` +
        `  deno task volary join ${line}\n\n${browser}` +
        `The invite admits ${terms.uses === 1 ? "one worker" : `${terms.uses} workers`} until ${
          new Date(runtime.wall() + terms.forMs).toISOString().slice(0, 16).replace("T", " ")
        } UTC${flags.has("approve") ? ", each once you approve it" : ""}. Another: deno task volary invite\n`,
    );
    const asked = Promise.withResolvers<void>(), stopListening = onInterrupt(asked.resolve);
    await asked.promise;
    say("Ending: a run under way is saved first. Ctrl-C again ends at once.");
    await server.close();
    await Deno.remove(coordinatorFile(state)).catch(() => {});
    key.release();
    stopListening();
    return 0;
  },
};

/** The WebSocket's address of --public. */
function publicOf(text: string | undefined): URL | undefined {
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text.replace(/^http/i, "ws")) : undefined;
  if (
    url === undefined || !/^wss?:$/.test(url.protocol) || url.pathname !== "/" || url.username !== "" ||
    url.search !== ""
  ) {
    throw new UsageError(
      `--public takes an address such as wss://mesh.example or wss://mesh.example:7450, not "${text}".`,
    );
  }
  url.pathname = "/mesh";
  return url;
}

/** The texts of --tls-cert and --tls-key. */
async function tlsOf(flags: ReturnType<typeof readFlags>): Promise<ServerOptions["tls"]> {
  const [cert, key] = [flags.text("tls-cert"), flags.text("tls-key")];
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined || key === undefined) throw new UsageError("--tls-cert and --tls-key go together.");
  const secret = await readOwn(key);
  if (secret === undefined) throw new CommandError(`There is no ${key} (--tls-key).`);
  try {
    return { cert: await Deno.readTextFile(cert), key: secret };
  } catch (error) {
    throw new CommandError(`Cannot read ${cert} (--tls-cert): ${(error as Error).message}`);
  }
}

/** How others reach a server that listens on `host`: on all addresses, by the first that leads out of this machine. */
function reachable(host: string): string {
  if (host !== "0.0.0.0" && host !== "::") return host.includes(":") ? `[${host}]` : host;
  const outside = Deno.networkInterfaces().find(({ family, address }) =>
    family === "IPv4" && !address.startsWith("127.")
  );
  return outside?.address ?? "127.0.0.1";
}

/** How this machine reaches it. */
function local(host: string, port: number): string {
  return `http://${host === "0.0.0.0" || host === "::" ? "127.0.0.1" : reachable(host)}:${port}`;
}

/** One coordinator for each state folder: two would write into the same runs. */
async function refuseSecond(state: string): Promise<void> {
  const { Owner } = await import("./client.ts");
  try {
    await (await Owner.find(state)).status();
  } catch (error) {
    if (error instanceof CommandError) return; // none, or one that ended without removing its file
    throw error;
  }
  throw new CommandError(
    `A coordinator runs with its state in ${state} already; stop it, or give this one another folder with --state.`,
  );
}

/** Listens; where that fails nothing is left of a key that was made for it. */
async function listening(key: HeldKey, options: ServerOptions): Promise<CoordinatorServer> {
  try {
    return serve(options);
  } catch (error) {
    key.release();
    if (key.made) await Deno.remove(key.path);
    throw error;
  }
}

/** At most one refusal a second is told: whoever knocks all the time must not fill a screen. */
function calmly(clock: Clock, tell: (event: MemberEvent) => void): (event: MemberEvent) => void {
  let last = -Infinity;
  return (event) => {
    if (event.event === "refused") {
      if (clock.now() - last < CALM_MS) return;
      last = clock.now();
    }
    tell(event);
  };
}

function memberText(event: MemberEvent): string {
  switch (event.event) {
    case "joined":
      return `${event.worker} joined (${event.device}, ${quantity(event.flops, "FLOPS")})`;
    case "left":
      return `${event.worker} left: ${event.reason}`;
    case "waiting":
      return `${event.worker} waits to be let in: volary approve ${event.worker} (fingerprint ${event.fingerprint})`;
    case "refused":
      return `somebody was refused: ${event.reason}`;
  }
}
