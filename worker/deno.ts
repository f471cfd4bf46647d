/**
 * A worker as a Deno process: WebSocket to the coordinator, WebRTC between workers, the device on a thread of its own.
 *
 * Permissions: `--allow-net --allow-env --allow-sys=networkInterfaces,hostname`, `--allow-read` of the program itself, and both
 * `--allow-read` and `--allow-write` of the key's file.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { join as inFolder } from "@std/path";
import { type HeldKey, holdKey, KeyInUseError } from "../mesh/identity/deno_key_file.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { KeyFileError } from "../mesh/errors.ts";
import type { IceServers, TurnServer } from "../mesh/transports/ice_servers.ts";
import { fingerprint, type Identity } from "../mesh/identity/identity.ts";
import { parseInvite } from "../mesh/identity/invite.ts";
import { nativeTransport } from "../mesh/transports/native_transport.ts";
import type { Chance } from "../mesh/runtime.ts";
import { loadWerift, weriftTransport } from "../mesh/transports/werift_transport.ts";
import { zstd } from "../mesh/tensors/zstd_deno.ts";
import { openComputeThread, startThread } from "./compute_client.ts";
import { cacheFolder, readKnown, writeKnown } from "./deno_known_files.ts";
import { type Rehearsal, startRehearsal } from "./deno_rehearsal.ts";
import { join, type JoinOptions } from "./join.ts";
import type { DeviceChoice } from "./thread_protocol.ts";
import type { RunningWorker } from "./worker.ts";

/** What a person may choose when joining from Deno. */
export interface DenoJoinOptions extends Omit<JoinOptions, "name"> {
  /** Default: the machine's name and four digits of the key's fingerprint. */
  readonly name?: string;
  /** File of this worker's key, made where it is missing; default: see {@linkcode ownKey}. */
  readonly key?: string;
  /** Default "auto": the WebGPU adapter where there is one, plain arrays otherwise. */
  readonly device?: DeviceChoice;
  /** Folder in which what was measured about devices is kept for the next start; default: the user's cache folder. */
  readonly cache?: string;
  /** Default "werift": WebRTC in TypeScript. "native" is faster and needs the permission --allow-ffi. */
  readonly transport?: TransportChoice;
  /** Servers that help to reach other workers; of those of the coordinator a TURN server is used where none is named here. */
  readonly servers?: IceServers;
}

/** Ways to reach other workers from Deno; both kinds understand each other. */
export const TRANSPORTS = ["werift", "native"] as const;
/** One of {@linkcode TRANSPORTS}. */
export type TransportChoice = typeof TRANSPORTS[number];

/** Joins the mesh of an invite from this process. Throws `KeyFileError` and what `join` in join.ts throws. */
export async function joinMesh(
  {
    name,
    device = "auto",
    transport = "werift",
    key,
    cache = cacheFolder(),
    servers,
    ...options
  }: DenoJoinOptions,
): Promise<RunningWorker> {
  parseInvite(options.invite); // nobody needs a key for a line that is no invite
  const runtime = denoRuntime();
  const held = key === undefined ? await ownKey(runtime, name) : await holdKey(key, runtime);
  let granted: TurnServer | undefined;
  // Who lends a part of a machine has not offered a second core for a moment, nor memory for it; arrays have no programs.
  const alone = device === "reference" || options.lent?.share !== undefined || options.memory !== undefined;
  let rehearsal: Rehearsal | undefined;
  try {
    const worker = await join({ ...options, name: name ?? ownName(held.identity) }, {
      clock: runtime,
      chance: runtime,
      identity: held.identity,
      transport: (local) =>
        (transport === "native" ? nativeTransport : weriftTransport)({
          clock: runtime,
          loopback: local,
          servers: () => ({ turn: granted, ...servers }),
        }),
      onturn: (server) => granted = server,
      socket: (url) => new WebSocket(url),
      compute: async (exchanger) => {
        const thread = startThread(); // its program loads meanwhile
        const [tunings, speeds] = await Promise.all([
          readKnown(cache, "tuned"),
          readKnown(cache, "measured"),
        ]);
        return await openComputeThread(
          {
            device,
            memory: options.memory,
            share: options.lent?.share,
            tuning: { known: tunings },
            speeds: { known: speeds, beside: `threads ${Deno.env.get("LP_NUM_THREADS") ?? "unset"}` },
          },
          exchanger,
          thread,
          (what, text) => {
            // A device that had to be measured is new here, and so are its programs.
            if (what === "measured" && !alone) rehearsal = startRehearsal();
            void writeKnown(cache, what, text);
          },
          (slice) => rehearsal?.begin(slice),
        );
      },
      zstd,
      software: `volary ${project.version} (deno ${Deno.version.deno})`,
    });
    worker.ended.catch(() => {}).finally(() => {
      rehearsal?.forget();
      held.release();
    });
    // While the device opens on its thread; the first link finds it loaded.
    if (transport === "werift") void loadWerift().catch(() => {}); // whoever opens a link hears of it
    return worker;
  } catch (error) {
    rehearsal?.forget();
    held.release();
    throw error;
  }
}

/** Workers of one user on one machine that find a key of their own without being told. */
const MOST_KEYS = 64;

/**
 * The first of this user's keys that no other worker on this machine uses: worker.key, worker-2.key, ... in the folder
 * `volary` of the user's configuration; for a worker with a name named-NAME.key, ..., as coordinators keep names to keys.
 */
export async function ownKey(chance: Chance, name?: string): Promise<HeldKey> {
  const base = name !== undefined && /^[A-Za-z0-9._-]{1,63}$/.test(name) ? `named-${name}` : "worker";
  for (let i = 1; i <= MOST_KEYS; i++) {
    try {
      return await holdKey(inFolder(keyFolder(), i === 1 ? `${base}.key` : `${base}-${i}.key`), chance);
    } catch (error) {
      if (!(error instanceof KeyInUseError)) throw error;
    }
  }
  throw new KeyInUseError(
    `${MOST_KEYS} workers of this user run here already; give this one a key with --key FILE.`,
  );
}

/** Where programs of this user keep what is theirs. */
function keyFolder(): string {
  const { env, build } = Deno;
  const home = env.get(build.os === "windows" ? "USERPROFILE" : "HOME");
  const base = build.os === "windows"
    ? env.get("APPDATA")
    : env.get("XDG_CONFIG_HOME") ?? (home && inFolder(home, ".config"));
  if (!base) {
    throw new KeyFileError(
      "There is no home folder to keep this worker's key in: name a file with --key FILE.",
    );
  }
  return inFolder(base, "volary");
}

/** A name that tells where the worker runs and, by the beginning of its key's fingerprint, which one it is. */
function ownName({ publicKey }: Identity): string {
  const host = Deno.hostname().split(".")[0].replace(/[^A-Za-z0-9_-]/g, "").replace(/^[^A-Za-z0-9]+/, "");
  return `${host.slice(0, 40) || "worker"}-${fingerprint(publicKey).slice(0, 4)}`;
}
