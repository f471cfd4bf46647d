/**
 * How long one training step takes, of the model and batch of a PyTorch peer: forward, backward, norm, AdamW; where the
 * time goes, kernel by kernel; and the peer's own speed where Debian's torch is installed.
 *
 * The peer is a script that prints "N tok/s": at VOLARY_TORCH_PEER, or ../shared/reference/torch_moe.py beside the project.
 *
 * @module
 */
import {
  type Bindings,
  type Device,
  type Kernel,
  type Params,
  type Values,
  type View,
  webgpuDevice,
  type Words,
} from "../kernels/mod.ts";
import { parseConfig } from "../model/config.ts";
import { freshModel } from "../model/init.ts";
import { LoadedModel } from "../model/local_model.ts";
import { randomStream } from "../model/random.ts";
import { countParameters } from "../model/tensors.ts";

/** One line for the list of benches. */
export const title = "one training step of a 5 M parameter mixture of experts, against PyTorch";

const BATCH = 8, SEQUENCE = 128;
const WARM = 3, MEASURED = 12;

const config = parseConfig({
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
  vocab_size: 512,
  rms_norm_eps: 1e-6,
  rope_theta: 1e4,
  attention_bias: true,
  tie_word_embeddings: false,
  num_local_experts: 8,
  num_experts_per_tok: 2,
  router_aux_loss_coef: 0.01,
  router_z_loss_coef: 0,
});

const settings = {
  learningRate: 3e-4,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clipNorm: 1,
};

/** Share of the peer's tokens a second that a step must reach. */
const LEAST = 0.12;

/** Options of every bench. */
export interface BenchOptions {
  readonly json: boolean;
}

/** A device that waits for each kernel and adds up its time. */
class TimedDevice implements Device {
  readonly info;
  readonly times = new Map<string, { calls: number; ms: number; flops: number }>();
  measuring = false;
  /** Milliseconds of a wait for nothing. */
  overhead = 0;
  readonly #device: Device;
  readonly #word: View;

  constructor(device: Device) {
    this.#device = device;
    this.info = device.info;
    this.#word = device.allocate(1, "waited for");
  }

  /** Waiting means reading; reading costs, so that is measured first. */
  async settle(): Promise<void> {
    const waits: number[] = [];
    for (let i = 0; i < 50; i++) waits.push(await timed(() => this.#device.read([this.#word])));
    this.overhead = median(waits);
  }

  run<B extends Bindings, P extends Params>(
    kernel: Kernel<B, P>,
    views: { readonly [Name in keyof B]: View },
    values: Values<P>,
  ): void {
    this.#device.run(kernel, views, values);
    if (!this.measuring) return;
    // The fast road of `read` has waited for the device when it returns its promise.
    const start = performance.now();
    void this.#device.read([this.#word]);
    const ms = Math.max(0, performance.now() - start - this.overhead);
    const known = this.times.get(kernel.name) ?? { calls: 0, ms: 0, flops: 0 };
    const { flops } = kernel.cost(values);
    this.times.set(kernel.name, { calls: known.calls + 1, ms: known.ms + ms, flops: known.flops + flops });
  }

  allocate(words: number, label: string): View {
    return this.#device.allocate(words, label);
  }
  release(view: View): void {
    this.#device.release(view);
  }
  write(view: View, data: Words): void {
    this.#device.write(view, data);
  }
  clear(view: View): void {
    this.#device.clear(view);
  }
  copy(from: View, to: View): void {
    this.#device.copy(from, to);
  }
  read(views: readonly View[]): Promise<ArrayBuffer[]> {
    return this.#device.read(views);
  }
  flush(): void {
    this.#device.flush();
  }
  memory(): { readonly held: number; readonly used: number; readonly peak: number } {
    return this.#device.memory();
  }
  close(): void {
    this.#device.close();
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function batch(step: number) {
  const draw = randomStream(1, "step", step);
  const tokens = Uint32Array.from(
    { length: BATCH * (SEQUENCE + 1) },
    () => draw.integer(config.vocabSize / 4),
  );
  const ids = new Uint32Array(BATCH * SEQUENCE), labels = new Uint32Array(BATCH * SEQUENCE);
  for (let b = 0; b < BATCH; b++) {
    const row = tokens.subarray(b * (SEQUENCE + 1), (b + 1) * (SEQUENCE + 1));
    ids.set(row.subarray(0, SEQUENCE), b * SEQUENCE);
    labels.set(row.subarray(1), b * SEQUENCE);
  }
  return { sequences: { ids, batch: BATCH, sequence: SEQUENCE }, labels };
}

/** The peer's tokens a second, or why there are none. */
async function peer(): Promise<{ tokens: number } | { absent: string }> {
  const script = Deno.env.get("VOLARY_TORCH_PEER") ??
    new URL("../../shared/reference/torch_moe.py", import.meta.url).pathname;
  try {
    await Deno.stat(script);
  } catch {
    return { absent: `no script at ${script}` };
  }
  const env: Record<string, string> = { OMP_NUM_THREADS: "1" };
  const command = new Deno.Command("/usr/bin/env", {
    // These two halve Debian's OpenBLAS where they are set.
    args: ["-u", "OPENBLAS_CORETYPE", "-u", "OPENBLAS_L2_SIZE", "/usr/bin/python3", script, "--steps", "7"],
    env,
  });
  try {
    const { success, stdout, stderr } = await command.output();
    const text = new TextDecoder().decode(stdout);
    const found = /(\d+) tok\/s/.exec(text);
    if (success && found) return { tokens: Number(found[1]) };
    return { absent: new TextDecoder().decode(stderr).trim().split("\n").at(-1) ?? "it printed no tok/s" };
  } catch (error) {
    return { absent: (error as Error).message };
  }
}

/** Measures and prints; with `json` one object on stdout. False where the peer is here and the step is too slow beside it. */
export async function run({ json }: BenchOptions): Promise<boolean> {
  // Mesa's software adapter takes every core unless told otherwise; the peer has one thread as well.
  if (Deno.env.get("LP_NUM_THREADS") === undefined) Deno.env.set("LP_NUM_THREADS", "1");
  const device = new TimedDevice(await webgpuDevice());
  const model = await LoadedModel.load(device, freshModel(config, 1), { training: true });
  const tokens = BATCH * SEQUENCE;
  const passes: number[] = [], steps: number[] = [];
  let first = 0, last = 0;
  const peers: Awaited<ReturnType<typeof peer>>[] = [];
  for (let i = 1; i <= WARM + MEASURED; i++) {
    // The peer runs between our steps, so that whatever else the machine does hits both alike.
    if (i > WARM && (i - WARM) % (MEASURED / 3) === 0) peers.push(await peer());
    const { sequences, labels } = batch(i);
    const ms = await timed(async () => {
      const { ce } = await model.step(sequences, labels, { ...settings, step: i });
      if (i === 1) first = ce;
      last = ce;
    });
    if (i > WARM) steps.push(ms);
  }
  for (let i = 1; i <= 3; i++) {
    const { sequences, labels } = batch(i);
    passes.push(await timed(() => model.loss(sequences, labels)));
  }
  await device.settle();
  device.measuring = true;
  const { sequences, labels } = batch(1);
  await model.step(sequences, labels, { ...settings, step: WARM + MEASURED + 1 });
  device.measuring = false;
  const step = median(steps);
  const rates = peers.flatMap((result) => "tokens" in result ? [result.tokens] : []);
  const found = rates.length > 0 ? { tokens: median(rates) } : peers[0];
  const kernels = [...device.times].map(([name, time]) => ({ name, ...time })).sort((a, b) => b.ms - a.ms);
  const result = {
    bench: "step",
    device: device.info.name,
    parameters: countParameters(config).total,
    batch: BATCH,
    sequence: SEQUENCE,
    stepMs: step,
    forwardMs: median(passes),
    tokensPerSecond: tokens / step * 1000,
    loss: [first, last],
    kernels,
    ...("tokens" in found
      ? { peerTokensPerSecond: found.tokens, ratio: tokens / step * 1000 / found.tokens }
      : { peerAbsent: found.absent, ratio: undefined }),
  };
  model.release();
  device.close();
  const enough = result.ratio === undefined || result.ratio >= LEAST;
  if (json) {
    console.log(JSON.stringify(result));
    return enough;
  }
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  const lines = [
    `${result.device}; ${(result.parameters / 1e6).toFixed(2)} M parameters, batch ${BATCH} x ${SEQUENCE}`,
    `step ${step.toFixed(1)} ms (forward alone ${result.forwardMs.toFixed(1)} ms), ` +
    `${result.tokensPerSecond.toFixed(0)} tokens/s, loss ${first.toFixed(3)} -> ${last.toFixed(3)}`,
    "tokens" in found
      ? `PyTorch on one thread: ${found.tokens} tokens/s; ratio ${
        result.ratio?.toFixed(3)
      } (at least ${LEAST})`
      : `PyTorch is absent (${found.absent})`,
    "",
    `${"kernel, each waited for".padEnd(28)}${"calls".padStart(6)}${"ms".padStart(9)}${
      "share".padStart(8)
    }  GFLOPS`,
    ...kernels.map(({ name, calls, ms, flops }) =>
      `${name.padEnd(28)}${String(calls).padStart(6)}${ms.toFixed(2).padStart(9)}` +
      `${(100 * ms / total).toFixed(1).padStart(7)}%  ${(flops / ms / 1e6).toFixed(1)}`
    ),
    `${"sum".padEnd(34)}${total.toFixed(2).padStart(9)}`,
  ];
  console.log(lines.join("\n"));
  return enough;
}
