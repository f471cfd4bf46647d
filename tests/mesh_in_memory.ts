/** A whole mesh in one process: a coordinator and workers with real devices, joined by channels in memory (or werift). */
import { Admission } from "../coordinator/admission/admission.ts";
import { Coordinator } from "../coordinator/coordinator.ts";
import type { Outcome, RunEvent } from "../coordinator/events.ts";
import type { Device } from "../kernels/mod.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { newIdentity } from "../mesh/identity/identity.ts";
import { parseInvite } from "../mesh/identity/invite.ts";
import { limits } from "../mesh/limits.ts";
import { zstd } from "../mesh/tensors/zstd_deno.ts";
import { type MemoryChannel, memoryChannelPair, MemoryHub } from "../mesh/transports/memory_transport.ts";
import type { Storage, Transport } from "../mesh/runtime.ts";
import type { Compute } from "../worker/compute.ts";
import { LocalCompute } from "../worker/local_compute.ts";
import { joinOver } from "../worker/join.ts";
import type { RunningWorker } from "../worker/worker.ts";
import { MemoryStorage } from "./memory_storage.ts";

export interface MeshOptions {
  /** Workers, called w0, w1, ...; w0 is the fastest, so that plans do not depend on measurements. */
  readonly workers: number;
  /** Opens a worker's device. */
  readonly device: () => Device | Promise<Device>;
  readonly storage?: MemoryStorage;
  /** Real files in place of `storage`. */
  readonly disk?: Storage;
  /** How workers reach each other; memory unless given. */
  readonly transport?: () => Transport;
  /** Changes what a worker's compute does, to break it. */
  readonly wrap?: (compute: Compute, worker: string) => Compute;
}

/** A mesh that runs. */
export class MeshInMemory {
  readonly events: RunEvent[] = [];
  private constructor(
    readonly coordinator: Coordinator,
    readonly storage: MemoryStorage,
    readonly workers: ReadonlyMap<
      string,
      { readonly worker: RunningWorker; readonly channel: MemoryChannel }
    >,
  ) {}

  /** Starts a coordinator and its workers and waits until all have joined. */
  static async start(options: MeshOptions): Promise<MeshInMemory> {
    const storage = options.storage ?? new MemoryStorage();
    const runtime = { ...denoRuntime(), storage: options.disk ?? storage };
    const arrived = Promise.withResolvers<void>();
    let joined = 0;
    const admission = await Admission.inMemory(runtime, "test");
    const invite = parseInvite(await admission.invite("ws://memory", { uses: options.workers }));
    const coordinator = new Coordinator({
      runtime,
      admission,
      onmember: ({ event }) => {
        if (event === "joined" && ++joined === options.workers) arrived.resolve();
      },
    });
    const hub = new MemoryHub(runtime);
    const workers = new Map<string, { worker: RunningWorker; channel: MemoryChannel }>();
    for (let w = 0; w < options.workers; w++) {
      const name = `w${w}`, [ours, theirs] = memoryChannelPair({ maxMessage: limits.messageBytes });
      coordinator.admit(ours);
      const worker = await joinOver(theirs, invite, { name }, {
        clock: runtime,
        chance: runtime,
        identity: await newIdentity(),
        transport: options.transport?.() ?? hub.transport(),
        zstd,
        compute: async (exchanger) => {
          const device = await options.device();
          const local = new LocalCompute({ device, exchanger, now: runtime.now, memory: 2 ** 32 });
          const ranked = withProfile(local, 1e9 - w);
          return options.wrap?.(ranked, name) ?? ranked;
        },
        software: "test",
      });
      workers.set(name, { worker, channel: theirs });
    }
    await Promise.race([arrived.promise, ...[...workers.values()].map(({ worker }) => worker.ended)]);
    return new MeshInMemory(coordinator, storage, workers);
  }

  /** Runs a recipe and answers with how it ended; `told` hears of each event; texts and runs lie in `folder`. */
  async run(
    recipe: string,
    resume = false,
    told: (event: RunEvent) => void = () => {},
    folder = "",
  ): Promise<Outcome> {
    return await this.coordinator.run({
      recipe,
      resolve: (path) => `${folder}/${path}`,
      runs: `${folder}/runs`,
      resume,
      resumeCommand: "volary run recipe.toml --resume",
    }, {
      tell: (event) => {
        if (event.event === "waiting") return;
        this.events.push(event);
        told(event);
      },
    });
  }

  /** The steps' numbers that must not depend on the plan. */
  steps(): { step: number; loss: number | null; norm: number | null }[] {
    return this.events.flatMap((event) =>
      event.event === "step" ? [{ step: event.step, loss: event.loss, norm: event.norm }] : []
    );
  }

  async close(): Promise<void> {
    await this.coordinator.close("the test is over");
    await Promise.all([...this.workers.values()].map(({ worker }) => worker.ended.catch(() => {})));
  }
}

/** The same compute, with a speed that the test decides. */
function withProfile(compute: Compute, flops: number): Compute {
  return new Proxy(compute, {
    get(target, key) {
      if (key === "profile") {
        return () =>
          Promise.resolve({
            device: "reference",
            deviceName: "in memory",
            flops,
            bandwidth: 1e9,
            memory: 2 ** 32,
            maxBinding: 2 ** 27,
          });
      }
      const value = Reflect.get(target, key);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
