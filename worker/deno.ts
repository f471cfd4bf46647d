/**
 * A worker as a Deno process: WebSocket to the coordinator, WebRTC between workers, the device on a thread of its own.
 *
 * Permissions: `--allow-net --allow-env --allow-sys=networkInterfaces,hostname`, and `--allow-read` of the program itself.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { nativeTransport } from "../mesh/native_transport.ts";
import { weriftTransport } from "../mesh/werift_transport.ts";
import { openComputeThread } from "./compute_client.ts";
import { join, type JoinOptions } from "./join.ts";
import type { DeviceChoice } from "./thread_protocol.ts";
import type { RunningWorker } from "./worker.ts";

/** What a person may choose when joining from Deno. */
export interface DenoJoinOptions extends Omit<JoinOptions, "name"> {
  /** Default: the machine's name and four random digits. */
  readonly name?: string;
  /** Default "auto": the WebGPU adapter where there is one, plain arrays otherwise. */
  readonly device?: DeviceChoice;
  /** Default "werift": WebRTC in TypeScript. "native" is faster and needs the permission --allow-ffi. */
  readonly transport?: TransportChoice;
}

/** Ways to reach other workers from Deno; both kinds understand each other. */
export const TRANSPORTS = ["werift", "native"] as const;
export type TransportChoice = typeof TRANSPORTS[number];

/** Joins the mesh of an invite from this process. Throws what `join` in join.ts throws. */
export function joinMesh(
  { name = ownName(), device = "auto", transport = "werift", ...options }: DenoJoinOptions,
): Promise<RunningWorker> {
  const clock = denoRuntime();
  return join({ ...options, name }, {
    clock,
    transport: (local) =>
      (transport === "native" ? nativeTransport : weriftTransport)({ clock, loopback: local }),
    socket: (url) => new WebSocket(url),
    compute: (exchanger) => openComputeThread({ device, memory: options.memory }, exchanger),
    software: `volary ${project.version} (deno ${Deno.version.deno})`,
  });
}

/** A name that is likely to be unique and tells where the worker runs. */
function ownName(): string {
  const host = Deno.hostname().split(".")[0].replace(/[^A-Za-z0-9_-]/g, "").replace(/^[^A-Za-z0-9]+/, "");
  const digits = Array.from(denoRuntime().random(2), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${host.slice(0, 40) || "worker"}-${digits}`;
}
