/**
 * `volary up`: starts a coordinator.
 *
 * @module
 */
import { resolve } from "@std/path";
import { Coordinator, type MemberEvent } from "../coordinator/coordinator.ts";
import type { CoordinatorFile } from "../coordinator/owner_protocol.ts";
import { number } from "../coordinator/report.ts";
import { serve } from "../coordinator/server.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { formatInvite, type Invite, newInvite, sameSecret } from "../mesh/invite.ts";
import { WebSocketChannel } from "../mesh/websocket_channel.ts";
import { coordinatorFile, DEFAULT_STATE } from "./client.ts";
import { CommandError, printJson, readFlags, say, type Verb } from "./verb.ts";

const DEFAULT_PORT = 7450;

export const verb: Verb = {
  name: "up",
  summary: "start a coordinator and print how to join it",
  help:
    `volary up [--port ${DEFAULT_PORT}] [--host 127.0.0.1] [--state ${DEFAULT_STATE}] [--expires HOURS] [--json]

Starts a coordinator: workers join it, and \`volary run\` gives it something to do. It runs until Ctrl-C; a run under way is
saved first.

  --port N          port to listen on; 0 takes any that is free
  --host ADDRESS    address to listen on; only this machine unless you say otherwise (0.0.0.0: everywhere)
  --state FOLDER    where runs and coordinator.json (address and owner's secret, readable by you only) are kept
  --expires HOURS   the invite ends after so many hours (default: never)
  --json            one JSON object a line on stdout: "up" with the invite, then "joined" and "left"`,

  async run(args) {
    const flags = readFlags(args, { boolean: ["json"], string: ["port", "host", "state", "expires"] });
    const port = flags.number("port", { min: 0, max: 65_535, integer: true }) ?? DEFAULT_PORT;
    const hours = flags.number("expires", { min: 0.001, max: 24 * 365 });
    const host = flags.text("host") ?? "127.0.0.1", state = flags.text("state") ?? DEFAULT_STATE;
    const json = flags.has("json");
    const runtime = denoRuntime(), runs = resolve(state);
    const owner = token(runtime.random(32));
    const door: { invite?: Invite } = {}; // the invite names the port, which is known once the server listens
    await Deno.mkdir(runs, { recursive: true });
    await refuseSecond(state);
    const coordinator = new Coordinator({
      runtime,
      admission: {
        matches: async (given) =>
          door.invite !== undefined && await sameSecret(runtime, given, door.invite.secret),
        expires: () => door.invite?.expires,
        mesh: "volary",
      },
      onmember: (event) => {
        if (json) printJson(event);
        else say(memberText(event));
      },
    });
    const server = serve({
      coordinator,
      host,
      port,
      runs,
      isOwner: (given) => sameSecret(runtime, given, owner),
      channel: (socket) => new WebSocketChannel(socket, runtime),
    });
    const address = `http://${reachable(host)}:${server.port}`;
    door.invite = newInvite(
      runtime,
      `ws://${reachable(host)}:${server.port}/mesh`,
      hours === undefined ? undefined : hours * 3_600_000,
    );
    const file: CoordinatorFile = {
      version: 1,
      address: local(host, server.port),
      owner,
      runs,
      pid: Deno.pid,
    };
    await writeOwn(coordinatorFile(state), JSON.stringify(file, null, 2) + "\n");
    const line = formatInvite(door.invite);
    if (json) printJson({ event: "up", address, invite: line, state: runs });
    say(
      `Coordinator at ${address}, runs in ${state}. On every machine that helps, once for each GPU:\n\n` +
        `  deno task volary join ${line}\n`,
    );
    await interrupted();
    say("Ending: a run under way is saved first. Ctrl-C again ends at once.");
    const hard = () => Deno.exit(130);
    Deno.addSignalListener("SIGINT", hard);
    await server.close();
    await Deno.remove(coordinatorFile(state)).catch(() => {});
    Deno.removeSignalListener("SIGINT", hard);
    return 0;
  },
};

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

/** Writes a file that only its owner may read, in one step. */
async function writeOwn(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  await Deno.writeTextFile(partial, text, { mode: 0o600 });
  if (Deno.build.os !== "windows") await Deno.chmod(partial, 0o600);
  await Deno.rename(partial, path);
}

/** Random bytes as text that is safe in a header and in an invite. */
function token(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function memberText(event: MemberEvent): string {
  switch (event.event) {
    case "joined":
      return `${event.worker} joined (${event.device}, ${number(event.flops)}FLOPS)`;
    case "left":
      return `${event.worker} left (${event.reason})`;
    case "refused":
      return `somebody was refused: ${event.reason}`;
  }
}

/** Resolves at the first Ctrl-C or request to end. */
function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
    const done = () => {
      for (const signal of signals) Deno.removeSignalListener(signal, done);
      resolve();
    };
    for (const signal of signals) Deno.addSignalListener(signal, done);
  });
}
