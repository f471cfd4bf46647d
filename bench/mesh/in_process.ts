/**
 * A coordinator and its workers in one process, whose connections to it are channels in memory.
 *
 * @module
 */
import { Admission } from "../../coordinator/admission/admission.ts";
import { Coordinator } from "../../coordinator/coordinator.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { newIdentity } from "../../mesh/identity/identity.ts";
import { parseInvite } from "../../mesh/identity/invite.ts";
import { limits } from "../../mesh/limits.ts";
import { memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { type JoinOptions, joinOver, type Surroundings } from "../../worker/join.ts";
import type { Transport } from "../../mesh/runtime.ts";

/** A worker: what it tells of itself, its links to others, its device. */
export interface Seat extends Pick<JoinOptions, "lent">, Pick<Surroundings, "compute"> {
  readonly transport: Transport;
}

/** A mesh whose workers have joined. */
export interface MeshInProcess {
  readonly coordinator: Coordinator;
  /** Ends it and waits for the workers. */
  close(): Promise<void>;
}

/** Starts a coordinator and one worker a seat, named w0, w1, ...; all have joined when it answers. */
export async function meshInProcess(seats: readonly Seat[]): Promise<MeshInProcess> {
  const runtime = denoRuntime();
  const admission = await Admission.inMemory(runtime), coordinator = new Coordinator({ runtime, admission });
  const invite = parseInvite(await admission.invite("ws://memory", { uses: seats.length }));
  const workers = await Promise.all(seats.map(async ({ lent, transport, compute }, w) => {
    const [ours, theirs] = memoryChannelPair({ maxMessage: limits.messageBytes });
    coordinator.admit(ours);
    return await joinOver(theirs, invite, { name: `w${w}`, ...(lent ? { lent } : {}) }, {
      clock: runtime,
      chance: runtime,
      identity: await newIdentity(),
      transport,
      compute,
      software: "bench",
    });
  }));
  return {
    coordinator,
    async close() {
      await coordinator.close("done");
      await Promise.all(workers.map((worker) => worker.ended.catch(() => {})));
    },
  };
}
