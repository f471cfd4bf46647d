/** Generations of several workers in one process, with the coordinator's part played by the test. */
import type { FromWorker } from "../../mesh/control/messages.ts";
import type { Credentials } from "../../mesh/link/handshake.ts";
import { localCredentials } from "../../mesh/link/handshake_local.ts";
import { MemoryHub } from "../../mesh/transports/memory_transport.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { type Operation, type Plan, sliceFor, type Stage } from "../../mesh/plan.ts";
import type { Transport } from "../../mesh/runtime.ts";
import { Generation } from "../../worker/generation.ts";
import { FakeCompute, HIDDEN } from "./fake_compute.ts";

export const clock = denoRuntime();
/** What the workers of these tests show each other. */
const credentials: Readonly<Record<string, Credentials>> = await localCredentials(
  clock,
  "test",
  ["a", "b", "h", ...Array.from({ length: 8 }, (_, w) => `w${w}`)],
);

/** A tiny model of `layers` layers; with `experts` experts in each. */
export function tinyModel(layers: number, experts = 0, tied = false): Plan["model"] {
  return {
    model_type: "volary",
    num_hidden_layers: layers,
    hidden_size: HIDDEN,
    intermediate_size: 4,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    head_dim: HIDDEN,
    vocab_size: 8,
    tie_word_embeddings: tied,
    ...(experts > 0 ? { num_local_experts: experts, num_experts_per_tok: 1 } : {}),
  };
}

/** Two sequences of three tokens in each of `microbatches` microbatches, one layer a stage. */
export function tinyPlan(
  { stages, ...plan }: { readonly stages: Stage[]; readonly operations: Plan["operations"] } & Partial<Plan>,
  microbatches = 2,
): Plan {
  return {
    run: "test",
    generation: 1,
    model: tinyModel(stages.length),
    shape: { batch: 2, sequence: 3, microbatches },
    pipelines: [{ shares: [microbatches], stages }],
    owners: new Array(stages.length + 2).fill(0),
    recompute: false,
    ...plan,
  };
}

/** A round's data of zeros. */
export function zeros(microbatches = 2): Uint8Array<ArrayBuffer> {
  return new Uint8Array(microbatches * 2 * 3 * 4);
}

export interface SmallMesh {
  readonly generations: ReadonlyMap<string, Generation>;
  /** Everything that workers said, with who said it. */
  readonly said: { readonly from: string; readonly message: FromWorker }[];
  readonly failures: Map<string, Error>;
  /** The next message of a kind from a worker (one that was said already counts once). */
  heard<T extends FromWorker["type"]>(from: string, type: T): Promise<Extract<FromWorker, { type: T }>>;
  start(): Promise<void>;
  round(round: number, mode?: "train" | "evaluate"): void;
  decide(round: number, commit?: boolean): void;
  close(): Promise<void>;
}

/** Starts every worker's part of `plan` on its fake device. */
export function smallMesh(
  plan: Plan,
  computes: Readonly<Record<string, FakeCompute>>,
  transport: (worker: string, hub: MemoryHub) => Transport = (_worker, hub) => hub.transport(),
): SmallMesh {
  const hub = new MemoryHub(clock);
  const said: SmallMesh["said"] = [], failures = new Map<string, Error>();
  const waiting: { from: string; type: string; resolve(message: FromWorker): void }[] = [];
  const unheard: SmallMesh["said"] = [];
  const generations = new Map<string, Generation>();
  const tell = (from: string, message: FromWorker) => {
    said.push({ from, message });
    if (message.type === "signal") {
      // Over the coordinator, so never within the same call.
      queueMicrotask(() => generations.get(message.peer)!.receive({ ...message, peer: from }));
      return;
    }
    const i = waiting.findIndex((each) => each.from === from && each.type === message.type);
    if (i >= 0) waiting.splice(i, 1)[0].resolve(message);
    else unheard.push({ from, message });
  };
  for (const self of Object.keys(plan.operations)) {
    const compute = computes[self];
    const generation = new Generation({
      credentials: credentials[self],
      slice: sliceFor(plan, self),
      moments: false,
      outer: false,
      compute,
      transport: transport(self, hub),
      clock,
      pull: (_tensor, _part, _start, length) =>
        Promise.resolve(new Uint8Array(new Float32Array(length).fill(1).buffer)),
      tell: (message) => tell(self, message),
      event: () => {},
      after: Promise.resolve(),
      failed: (error) => failures.set(self, error),
    });
    compute.exchanger = generation.exchange;
    generations.set(self, generation);
  }
  const mesh: SmallMesh = {
    generations,
    said,
    failures,
    heard: (from, type) =>
      new Promise((resolve) => {
        const i = unheard.findIndex((each) => each.from === from && each.message.type === type);
        if (i >= 0) resolve(unheard.splice(i, 1)[0].message as never);
        else waiting.push({ from, type, resolve: resolve as (message: FromWorker) => void });
      }),
    async start() {
      for (const self of generations.keys()) await mesh.heard(self, "linked");
      for (const generation of generations.values()) {
        generation.receive({ type: "start", generation: plan.generation });
      }
    },
    round(round, mode = "train") {
      for (const generation of generations.values()) {
        const { microbatches } = plan.shape;
        generation.receive({
          type: "round",
          generation: plan.generation,
          round,
          mode,
          validLabels: microbatches * 6,
          ids: zeros(microbatches),
          labels: zeros(microbatches),
        });
      }
    },
    decide(round, commit = true) {
      for (const generation of generations.values()) {
        generation.receive(decision(plan.generation, round, commit));
      }
    },
    async close() {
      for (const generation of generations.values()) generation.end("the test is over");
      for (const generation of generations.values()) await generation.ended;
      await Promise.all([...generations.values()].map((generation) => generation.closed));
    },
  };
  return mesh;
}

/** Operation lists of two stages that pass `microbatches` microbatches forward and back, all forwards first. */
export function twoStages(
  microbatches = 2,
): Record<"a" | "b", { train: Operation[]; evaluate: Operation[] }> {
  const all = Array.from({ length: microbatches }, (_, microbatch) => microbatch);
  const send = (what: "activation" | "gradient", stage: number, microbatch: number): Operation => ({
    do: "send",
    what,
    stage,
    peer: 1 - stage,
    microbatch,
  });
  const receive = (what: "activation" | "gradient", stage: number, microbatch: number): Operation => ({
    ...send(what, stage, microbatch),
    do: "receive",
  } as Operation);
  const first = all.flatMap((
    m,
  ): Operation[] => [{ do: "forward", stage: 0, microbatch: m }, send("activation", 0, m)]);
  const second = all.flatMap((m): Operation[] => [
    receive("activation", 1, m),
    { do: "forward", stage: 1, microbatch: m },
  ]);
  return {
    a: {
      train: [
        ...first,
        ...all.flatMap((
          m,
        ): Operation[] => [receive("gradient", 0, m), { do: "backward", stage: 0, microbatch: m }]),
        { do: "vote" },
      ],
      evaluate: first,
    },
    b: {
      train: [
        ...second,
        ...all.flatMap((
          m,
        ): Operation[] => [{ do: "backward", stage: 1, microbatch: m }, send("gradient", 1, m)]),
        { do: "vote" },
      ],
      evaluate: second,
    },
  };
}

/** Two stages of one layer each, on workers a and b, with the given experts. */
export function stagesOfTwo(experts: [string[], string[]] = [[], []]): Stage[] {
  return [
    { worker: "a", from: 0, to: 1, embedding: true, head: false, experts: [experts[0]] },
    { worker: "b", from: 1, to: 2, embedding: false, head: true, experts: [experts[1]] },
  ];
}

/** What the coordinator answers to a round's votes. */
export function decision(generation: number, round: number, commit = true) {
  return {
    type: "decision",
    generation,
    round,
    commit,
    clip: 1,
    learningRate: 0.1,
    step: round + 1,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0,
  } as const;
}
