import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Device } from "../../kernels/device.ts";
import { openDevice } from "../../kernels/open.ts";
import type { ModelConfig } from "../../model/config.ts";
import { Decoder } from "../../model/text/decoder.ts";
import { ModelError } from "../../model/errors.ts";
import type { FileReader } from "../../model/files.ts";
import { generate, type GenerateOptions } from "../../model/text/generate.ts";
import { drawNormal } from "../../model/init.ts";
import { LoadedModel } from "../../model/layers/local_model.ts";
import { randomStream } from "../../model/random.ts";
import { openCheckpoint } from "../../model/checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../model/text/load_tokenizer.ts";

const BASE: ModelConfig = {
  modelType: "volary",
  hiddenSize: 32,
  intermediateSize: 48,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  vocabSize: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 1e4,
  attentionBias: true,
  tiedEmbeddings: false,
  experts: 0,
  expertsPerToken: 0,
  sharedExpert: 0,
  ladderResidual: false,
  balanceCoefficient: 0,
  zCoefficient: 0,
  maxPositions: 64,
};

const MODELS: Readonly<Record<string, ModelConfig>> = {
  "dense, grouped queries": BASE,
  "dense, one head a key, tied, odd sizes": {
    ...BASE,
    hiddenSize: 30,
    intermediateSize: 41,
    heads: 3,
    kvHeads: 3,
    headDim: 10,
    vocabSize: 53,
    attentionBias: false,
    tiedEmbeddings: true,
  },
  "experts": { ...BASE, experts: 6, expertsPerToken: 2 },
  "a shared expert": { ...BASE, experts: 4, expertsPerToken: 2, sharedExpert: 21 },
  "experts, one for each token": { ...BASE, experts: 3, expertsPerToken: 1, intermediateSize: 20 },
};

/** Every tensor random, also norms and biases, so that each matters. */
async function randomModel(device: Device, config: ModelConfig): Promise<LoadedModel> {
  return await LoadedModel.load(device, {
    config,
    read: (name, start, length) => {
      const gain = name.includes("norm") ? 1 : 0;
      const scale = name.includes("embed") ? 0.5 : name.includes("moe.gate") ? 0.5 : 0.15;
      return Promise.resolve(drawNormal(3, name, start, length, scale).map((x) => gain + x));
    },
  });
}

/** Registers a test for WebGPU and one for plain arrays. */
function onDevices(name: string, body: (device: Device) => Promise<void>): void {
  for (const kind of ["webgpu", "reference"] as const) {
    Deno.test(`${name} (${kind})`, async () => {
      const device = await openDevice({ kind });
      try {
        await body(device);
      } finally {
        device.close();
      }
    });
  }
}

function tokens(length: number, vocabulary: number): Uint32Array<ArrayBuffer> {
  const stream = randomStream(1, "tokens");
  return Uint32Array.from({ length }, () => stream.integer(vocabulary));
}

async function collect(
  model: LoadedModel,
  prompt: Uint32Array<ArrayBuffer>,
  options: Partial<GenerateOptions>,
) {
  const defaults = { maxTokens: 12, temperature: 0, topP: 1, seed: 0 };
  return await Array.fromAsync(generate(model, prompt, { ...defaults, ...options }));
}

for (const [name, config] of Object.entries(MODELS)) {
  onDevices(`logits token by token equal those of the whole text: ${name}`, async (device) => {
    const model = await randomModel(device, config);
    const ids = tokens(23, config.vocabSize);
    const V = config.vocabSize;
    const full = await model.forwardLogits({ ids, batch: 1, sequence: ids.length });
    const largest = full.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    assert(largest > 0.5, `the logits are all near zero: ${largest}`);
    for (const prefill of [1, 7, 23]) {
      const decoder = new Decoder(model, ids.length);
      for (let end = prefill; end <= ids.length; end++) {
        const logits = await decoder.extend(ids.slice(end === prefill ? 0 : end - 1, end));
        for (let v = 0; v < V; v++) {
          const error = Math.abs(logits[v] - full[(end - 1) * V + v]) / largest;
          assert(error < 1e-5, `prefill ${prefill}, after ${end} tokens, logit ${v} is off by ${error}`);
        }
      }
      assertEquals(decoder.length, ids.length);
      decoder.release();
    }
    model.release();
  });
}

onDevices("a text appended in pieces is the same text", async (device) => {
  const model = await randomModel(device, MODELS.experts);
  const ids = tokens(20, 64);
  const answers: Float32Array[] = [];
  for (const cuts of [[20], [3, 9, 20], [19, 20]]) {
    const decoder = new Decoder(model, 20);
    let logits = new Float32Array();
    let from = 0;
    for (const to of cuts) {
      logits = await decoder.extend(ids.slice(from, to));
      from = to;
    }
    decoder.release();
    answers.push(logits);
  }
  for (const answer of answers) {
    answer.forEach((x, v) =>
      assert(Math.abs(x - answers[0][v]) < 1e-5, `logit ${v}: ${x}, ${answers[0][v]}`)
    );
  }
  model.release();
});

onDevices("generation is greedy, seeded, stoppable, and gives memory back", async (device) => {
  const model = await randomModel(device, BASE);
  const prompt = tokens(5, 64);
  const greedy = await collect(model, prompt, {});
  assertEquals(greedy.length, 12);
  // The definition: the likeliest token after the whole text, again and again.
  const text = [...prompt];
  for (const token of greedy) {
    const ids = Uint32Array.from(text);
    const logits = await model.forwardLogits({ ids, batch: 1, sequence: text.length });
    const last = logits.subarray((text.length - 1) * 64);
    assertEquals(token, last.indexOf(Math.max(...last)));
    text.push(token);
  }
  const draw = (seed: number) => collect(model, prompt, { temperature: 1, topP: 0.9, seed });
  assertEquals(await draw(1), await draw(1));
  assert((await draw(1)).join() !== (await draw(2)).join());

  const stop = greedy[4];
  assertEquals(await collect(model, prompt, { stop }), greedy.slice(0, greedy.indexOf(stop)));
  assertEquals(await collect(model, prompt, { maxTokens: 0 }), []);
  assertEquals(await collect(model, prompt, { maxTokens: 60 }).then((all) => all.length), 60);

  const before = device.memory().used;
  for await (const _ of generate(model, prompt, { maxTokens: 9, temperature: 0, topP: 1, seed: 0 })) break;
  await collect(model, prompt, {});
  assertEquals(device.memory().used, before);
  model.release();
});

onDevices("prompts and lengths that cannot work are refused by name", async (device) => {
  const model = await randomModel(device, BASE);
  const prompt = tokens(5, 64);
  await assertRejects(() => collect(model, new Uint32Array(), {}), RangeError, "empty prompt");
  await assertRejects(() => collect(model, Uint32Array.of(1, 64), {}), RangeError, "64");
  await assertRejects(() => collect(model, prompt, { maxTokens: 61 }), ModelError, "at most 60");
  await assertRejects(() => collect(model, tokens(65, 64), {}), ModelError, "prompt of at most 64");
  await assertRejects(() => collect(model, prompt, { maxTokens: -1 }), RangeError, "-1");
  await assertRejects(() => collect(model, prompt, { temperature: -1 }), RangeError, "temperature");
  const decoder = new Decoder(model, 4);
  await assertRejects(() => decoder.extend(prompt), RangeError, "room for 4");
  await assertRejects(() => decoder.extend(new Uint32Array()), RangeError, "0 tokens");
  model.release();
});

onDevices("a model whose weights are broken says so", async (device) => {
  const model = await randomModel(device, BASE);
  model.parameters.put("lm_head.weight", "weight", 0, new Float32Array(4).fill(NaN));
  await assertRejects(() => collect(model, tokens(5, 64), {}), ModelError, "token 0");
  model.release();
});

// A real pretrained model that may lie beside the project; absent elsewhere.
const STORIES = new URL("../../../shared/models/stories260k", import.meta.url).pathname;

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

const disk: FileReader = {
  async read(path, start, end) {
    return (await Deno.readFile(path)).slice(start, end);
  },
  size: (path) => Deno.stat(path).then(({ size }) => size, () => undefined),
};

for (const kind of ["webgpu", "reference"] as const) {
  Deno.test({
    name: `stories260K tells its story (${kind}; needs ../shared/models/stories260k)`,
    ignore: !exists(STORIES),
    async fn() {
      const device = await openDevice({ kind });
      const checkpoint = await openCheckpoint(disk, STORIES);
      const tokenizer = await loadTokenizer(disk, STORIES);
      const model = await LoadedModel.load(device, checkpoint);
      const made = await collect(model, Uint32Array.of(1), { maxTokens: 60 });
      const story = "Once upon a time, there was a little girl named Lily. " +
        "She loved to play outside in the park. One day, she saw a big, red ball.";
      assertEquals(tokenizer.decode(made).trim().slice(0, story.length), story);
      model.release();
      device.close();
    },
  });
}
