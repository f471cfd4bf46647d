/**
 * How long does a worker wait at a coordinator's door, alone and while a thousand others stand in it? Connections over real
 * sockets, of another process, that never say anything, or knock and never prove who they are, and come again when shut.
 * Wanted: the median in the flood is that in peace, a few milliseconds.
 *
 * @module
 */
import { Admission } from "../../coordinator/admission/admission.ts";
import { Coordinator } from "../../coordinator/coordinator.ts";
import { serve } from "../../coordinator/admission/server.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { applyToCoordinator } from "../../mesh/control/handshake_control.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { type Invite, parseInvite } from "../../mesh/identity/invite.ts";
import { WebSocketChannel, webSocketChannel } from "../../mesh/transports/websocket_channel.ts";
import { lines } from "../../cli/lines.ts";
import { killed, startModule } from "../harness/processes.ts";
import { median } from "../harness/statistics.ts";
import type { BenchOptions } from "../harness/bench.ts";

/** One line for the list of benches. */
export const title = "a join while a thousand half-open ones are there";

const FLOOD = 1_000, JOINS = 20;
const runtime = denoRuntime();

/** Prints the median and the longest time of a join in ms, in peace and in the flood. */
export async function run({ record, print }: BenchOptions): Promise<void> {
  const admission = await Admission.inMemory(runtime), coordinator = new Coordinator({ runtime, admission });
  const server = serve({
    coordinator,
    host: "127.0.0.1",
    port: 0,
    runs: "/",
    isOwner: () => false,
    invite: () => Promise.reject(new Error("not asked for")),
    channel: (socket) => new WebSocketChannel(socket, runtime),
  });
  const line = await admission.invite(`ws://127.0.0.1:${server.port}/mesh`, { uses: 10 * JOINS });
  const invite = parseInvite(line);
  const results: Record<string, { median: number; longest: number }> = {};
  results.alone = await joins(invite);
  for (const speaks of [false, true]) {
    const args = [line, String(FLOOD), speaks ? "knock" : "silent"];
    const flood = startModule(new URL("flood_process.ts", import.meta.url), args, {
      permissions: ["--allow-net", "--allow-env"],
    });
    await lines(flood.stdout).next(); // its first connections are on their way
    const what = speaks ? "half-open after a knock" : "half-open and silent";
    results[`${what}, coming in`] = await joins(invite);
    const late = performance.now() + 10_000;
    while (coordinator.membership.halfOpen < 0.9 * FLOOD && performance.now() < late) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    results[`${what}, ${coordinator.membership.halfOpen} there`] = await joins(invite);
    await killed(flood);
  }
  await server.close();
  record({ unit: "ms", flood: FLOOD, results });
  for (const [what, { median, longest }] of Object.entries(results)) {
    print(
      `${what.padEnd(36)} join ${median.toFixed(1)} ms (median), ${longest.toFixed(1)} ms (longest)`,
    );
  }
}

/** Joins one after the other, as far as the verdict. */
async function joins(invite: Invite): Promise<{ median: number; longest: number }> {
  const took: number[] = [];
  for (let i = 0; i < JOINS; i++) {
    const identity = await newIdentity(), began = performance.now();
    const channel = await webSocketChannel(new WebSocket(invite.address), runtime);
    const refused = await applyToCoordinator(channel, invite, { clock: runtime, chance: runtime, identity });
    took.push(performance.now() - began);
    if (refused !== undefined) throw new Error(refused);
    channel.close();
    await channel.closed;
  }
  return { median: median(took), longest: Math.max(...took) };
}
