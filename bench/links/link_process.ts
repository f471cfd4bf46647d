/**
 * One end of a link in a process of its own, for benches and tests. Argument: {@linkcode LinkProcessOptions} as JSON. A line
 * of JSON each over stdin and stdout: `{signal}` is for the other end, `{event}` is news.
 *
 * @module
 */
import { cpuUsage } from "node:process";
import { objects } from "../../cli/lines.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import { identityOfSeed } from "../../mesh/identity/identity.ts";
import { nativeTransport } from "../../mesh/transports/native_transport.ts";
import { localHeader } from "../../mesh/transports/local_links.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { Linking } from "../../worker/linking.ts";

/** What an end does. */
export interface LinkProcessOptions {
  readonly role: "send" | "receive";
  readonly transport: "werift" | "native";
  readonly frameBytes: number;
  /** Frames to send, or the time for which to send them, ms. */
  readonly frames?: number;
  readonly ms?: number;
  /** Connections side by side; absent: as the road asks. */
  readonly paths?: number;
  /** The receiver does not consume for so long after the first frame, ms. */
  readonly stall?: number;
}

/** What the receiver says at the end. */
export interface Received {
  readonly event: "received";
  readonly frames: number;
  /** From the first frame on, without it. */
  readonly bytesPerSecond: number;
  /** Longest time without a frame, ms. */
  readonly longestGap: number;
  /** Most bytes that arrived and were not consumed. */
  readonly mostHeld: number;
  /** Frames out of order, missing or twice. */
  readonly wrong: number;
}

const options = JSON.parse(Deno.args[0]) as LinkProcessOptions, { role, frameBytes, paths } = options;
const say = (value: unknown) => console.log(JSON.stringify(value));
const clock = denoRuntime(), sends = role === "send";
const [self, peer] = sends ? ["a", "b"] as const : ["b", "a"] as const;
const transport = (options.transport === "native" ? nativeTransport : weriftTransport)({
  clock,
  loopback: true,
});
// Both processes make the same coordinator's key; nothing else trusts it.
const credentials = await localCredentials(clock, "bench", [self], await identityOfSeed(new Uint8Array(32)));
const linking = new Linking({
  transport: paths === undefined ? transport : { ...transport, paths: () => paths },
  clock,
  self,
  peer,
  run: "bench",
  generation: 1,
  credentials: credentials[self],
  lanes: { pipeline: frameBytes, request: 4, reply: 4 },
  signal: (signal) => say({ signal }),
});
/** Connections when everything was sent. */
let most = 0;
listen();
const link = await linking.link;
say({ event: "open" });
link.onsuspected = (suspected) => say({ event: "suspected", suspected, at: Date.now() });
link.closed.then(({ orderly, reason }) => {
  const { user, system } = cpuUsage(), { rss } = Deno.memoryUsage();
  say({
    event: "closed",
    orderly,
    reason,
    at: Date.now(),
    counters: link.counters,
    paths: most,
    rss,
    cpu: (user + system) / 1e6,
  });
  setTimeout(() => Deno.exit(0), 100); // what is said goes out first
});
if (sends) await send();
else receive();

async function send(): Promise<void> {
  // Channels side by side open with the first heartbeats.
  while (paths !== undefined && link.counters.paths < paths) await new Promise((go) => setTimeout(go, 50));
  const payload = new Uint8Array(frameBytes),
    { frames = Infinity, ms = Infinity } = options,
    began = clock.now();
  let sequence = 0;
  try {
    for (; sequence < frames && clock.now() - began < ms; sequence++) {
      await link.send("pipeline", localHeader(sequence), [payload]);
    }
    most = link.counters.paths;
    say({ event: "sent", frames: sequence });
    link.close();
  } catch {
    // `closed` says why.
  }
}

function receive(): void {
  let frames = 0, began = 0, last = 0, longestGap = 0, wrong = 0, stalled = false;
  const held: (() => void)[] = [];
  link.onframe = (_lane, { sequence }, _payload, consumed) => {
    const now = clock.now();
    if (frames === 0) {
      began = now;
      if (options.stall !== undefined) {
        stalled = true;
        setTimeout(() => {
          stalled = false;
          for (const each of held.splice(0)) each();
        }, options.stall);
      }
    } else longestGap = Math.max(longestGap, now - last);
    if (sequence !== frames++) wrong++;
    last = now;
    if (stalled) held.push(consumed);
    else consumed();
  };
  link.closed.then(() => {
    const bytesPerSecond = (frames - 1) * frameBytes / (last - began) * 1_000;
    const { mostHeld } = link.counters;
    say({ event: "received", frames, bytesPerSecond, longestGap, mostHeld, wrong } satisfies Received);
  });
}

async function listen(): Promise<void> {
  for await (const { signal } of objects(Deno.stdin.readable)) linking.receive(signal);
}
