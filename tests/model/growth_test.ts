/** Growth: what must stay equal stays equal, AKI mixes what it should, and what cannot be done is refused. */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { ModelConfig } from "../../model/config.ts";
import { GrowthError } from "../../model/errors.ts";
import {
  depthMap,
  describeGrowth,
  growModel,
  type GrowthOptions,
  parseGrowthOptions,
} from "../../model/growth/growth.ts";
import { simdScale } from "../../model/growth/growth_simd.ts";
import { elements, parameterTable } from "../../model/tensors.ts";
import { distance, logitsF64 } from "./float64_model.ts";
import { growingPair, growthShapes, type Shapes } from "./growing.ts";
import { memorySource, randomWeights, readAll, smallConfig } from "./models.ts";

const fpi: GrowthOptions = { method: "fpi", depth: "interpolate", width: "copies" };
const ids = [3, 1, 16, 3, 0, 7];

function grow(
  source: ModelConfig,
  target: ModelConfig,
  options: GrowthOptions,
  weights = randomWeights(source),
) {
  return readAll(growModel(memorySource(source, weights), target, options));
}

/** Relative distance of the logits before and after. */
async function change(
  source: ModelConfig,
  target: ModelConfig,
  options: GrowthOptions,
  weights = randomWeights(source),
) {
  const before = logitsF64(source, weights, ids);
  return distance(before, logitsF64(target, await grow(source, target, options, weights), ids));
}

const shapes = growthShapes({ least: 1, noise: 0.05 });

for (
  const [what, width, hiddenSize] of [
    ["FPI at integer widths and identity depth keeps the logits", "copies", (x) => x.d * x.times],
    ["scaled copies keep the logits at any width", "scaled-copies", (x) => x.d + x.hidden],
  ] satisfies [string, GrowthOptions["width"], (x: Shapes) => number][]
) {
  Deno.test(what, async () => {
    await fc.assert(
      fc.asyncProperty(shapes, async (x) => {
        const [source, target] = growingPair(x, hiddenSize(x)), { spread, noise, seed } = x;
        const options: GrowthOptions = { method: "fpi", depth: "identity", width, spread, noise, seed };
        assert(await change(source, target, options, randomWeights(source, x.seed)) < 2e-6);
        assert(describeGrowth(source, target, options).exact);
      }),
      { numRuns: 60, seed: 1 },
    );
  });
}

Deno.test("what is called approximate does change the function", async () => {
  const source = smallConfig({ num_hidden_layers: 3 });
  const wide = { ...source, hiddenSize: 24, heads: 8, intermediateSize: 30 }, deep = { ...source, layers: 5 };
  const cases: [ModelConfig, GrowthOptions][] = [
    [{ ...source, hiddenSize: 20 }, fpi],
    [deep, fpi],
    [deep, { ...fpi, depth: "stack" }],
    [wide, { ...fpi, method: "aki" }],
    [wide, { ...fpi, method: "aki-inner" }],
  ];
  for (const [target, options] of cases) {
    assertEquals(describeGrowth(source, target, options).exact, false);
    assert(await change(source, target, options) > 1e-3, JSON.stringify(options));
  }
  assert(await change(source, wide, fpi) < 2e-6);
});

Deno.test("layers: interpolation, stacking, identity", () => {
  const layers = (from: number, to: number, depth: GrowthOptions["depth"]) =>
    depthMap(from, to, depth).map(({ layer, silent }) => silent ? `${layer}-` : `${layer}`).join(" ");
  assertEquals(layers(3, 6, "interpolate"), "0 0 1 1 2 2");
  assertEquals(layers(4, 7, "interpolate"), "0 0 1 1 2 2 3");
  assertEquals(layers(4, 6, "stack"), "0 1 2 3 0 1");
  assertEquals(layers(3, 7, "identity"), "0 0- 0- 1 1- 2 2-");
  assertEquals(layers(5, 5, "identity"), "0 1 2 3 4");
});

/** Row `r` of a matrix of `columns` columns. */
const row = (words: Float32Array, columns: number, r: number) => words.slice(r * columns, (r + 1) * columns);

Deno.test("AKI takes new rows from the layer above, read through the input's copies; the last layer is FPI", async () => {
  const source = smallConfig(), target = { ...source, hiddenSize: 24, heads: 8, intermediateSize: 25 };
  const weights = randomWeights(source);
  const [aki, inner, plain] = await Promise.all(
    (["aki", "aki-inner", "fpi"] as const).map((method) => grow(source, target, { ...fpi, method }, weights)),
  );
  const name = (layer: number, leaf: string) => `model.layers.${layer}.${leaf}.weight`;
  const halves = (words: Float32Array, times = 0.5) => [...words, ...words].map((word) => word * times);
  // Query heads 0 1 | 2 3 become 0 1 0 1 | 2 3 2 3: of the first group, heads 2 and 3 are new.
  const q = name(0, "self_attn.q_proj"), q1 = name(1, "self_attn.q_proj");
  for (const grown of [aki, inner]) {
    assertEquals([...row(grown.get(q)!, 24, 3)], halves(row(weights.get(q)!, 12, 3)));
    assertEquals([...row(grown.get(q)!, 24, 2 * 6 + 3)], halves(row(weights.get(q1)!, 12, 3)));
    assertEquals([...row(grown.get(q)!, 24, 5 * 6 + 1)], halves(row(weights.get(q)!, 12, 3 * 6 + 1)));
    assertEquals([...row(grown.get(q)!, 24, 7 * 6 + 1)], halves(row(weights.get(q1)!, 12, 3 * 6 + 1)));
    const b = "model.layers.0.self_attn.q_proj.bias";
    assertEquals(grown.get(b)![2 * 6 + 3], weights.get(b.replace("0", "1"))![3]);
    const gate = name(0, "mlp.gate_proj");
    assertEquals([...row(grown.get(gate)!, 24, 19)], halves(row(weights.get(gate)!, 12, 19)));
    assertEquals(
      [...row(grown.get(gate)!, 24, 20)],
      halves(row(weights.get(name(1, "mlp.gate_proj"))!, 12, 0)),
    );
    // Grouped key and value heads do not grow, so they have no new rows.
    assertEquals(grown.get(name(0, "self_attn.k_proj")), plain.get(name(0, "self_attn.k_proj")));
    for (const tensor of ["embed_tokens", "norm", "layers.0.input_layernorm"]) {
      assertEquals(grown.get(`model.${tensor}.weight`), plain.get(`model.${tensor}.weight`));
    }
    for (const [tensor, words] of plain) {
      if (tensor.includes("layers.1.")) assertEquals(grown.get(tensor), words, tensor);
    }
  }
  // Rows that write into the residual stream: mixed by AKI, left alone by AKI-inner.
  const down = name(0, "mlp.down_proj");
  const share = (r: number, l: number) => {
    const old = row(weights.get(name(l, "mlp.down_proj"))!, 20, r);
    return Array.from({ length: 25 }, (_, j) => Math.fround(old[j % 20] / (j % 20 < 5 ? 2 : 1)));
  };
  assertEquals([...row(aki.get(down)!, 25, 4)], share(4, 0));
  assertEquals([...row(aki.get(down)!, 25, 12 + 4)], share(4, 1));
  assertEquals(inner.get(down), plain.get(down));
  assertEquals(inner.get(name(0, "self_attn.o_proj")), plain.get(name(0, "self_attn.o_proj")));
});

Deno.test("a spread parts the readers' shares but not their sums", async () => {
  const source = smallConfig({ num_hidden_layers: 1 }), target = { ...source, hiddenSize: 36 };
  const weights = randomWeights(source), name = "model.layers.0.mlp.gate_proj.weight";
  const words = (await grow(source, target, { ...fpi, spread: 0.5, seed: 4 }, weights)).get(name)!;
  for (let j = 0; j < 12; j++) {
    const copies = [words[j], words[j + 12], words[j + 24]], old = weights.get(name)![j];
    assert(Math.abs(copies[0] + copies[1] + copies[2] - old) < 1e-6 && copies[0] !== copies[1]);
  }
});

Deno.test("paired noise parts the readers of copies and cancels over them", async () => {
  const source = smallConfig({ num_hidden_layers: 1 }),
    target = { ...source, hiddenSize: 30, intermediateSize: 25 };
  const weights = randomWeights(source), options: GrowthOptions = { ...fpi, noise: 0.1, seed: 4 };
  const grown = await grow(source, target, options, weights),
    plain = await grow(source, target, fpi, weights);
  const name = "model.layers.0.mlp.gate_proj.weight", words = grown.get(name)!, before = plain.get(name)!;
  for (let j = 0; j < 12; j++) {
    const copies = [j, j + 12, j + 24].filter((column) => column < 30);
    const noise = copies.map((column) => words[column] - before[column]);
    assert(Math.abs(noise.reduce((a, b) => a + b)) < 1e-6 && noise.every((value) => Math.abs(value) > 1e-4));
  }
  const down = "model.layers.0.mlp.down_proj.weight";
  for (let j = 0; j < 25; j++) assertEquals(grown.get(down)![j] === plain.get(down)![j], j >= 5 && j < 20);
  for (
    const tensor of ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.bias"]
  ) {
    assertEquals(grown.get(tensor), plain.get(tensor));
  }
});

Deno.test("long rows go through vectors and come out as plain arithmetic says, bit for bit", async () => {
  assert(simdScale() !== undefined, "this engine has WebAssembly vectors");
  const source = smallConfig({ num_hidden_layers: 1, hidden_size: 201, intermediate_size: 133 });
  const target = { ...source, hiddenSize: 333, intermediateSize: 270 }, weights = randomWeights(source);
  const grown = await grow(source, target, { ...fpi, width: "scaled-copies" }, weights);
  const copies = (j: number, from: number, to: number) => Math.floor((to - 1 - j % from) / from) + 1;
  const writes = (j: number) => Math.sqrt(333 / 201 / copies(j, 201, 333));
  const gate = "model.layers.0.mlp.gate_proj.weight", down = "model.layers.0.mlp.down_proj.weight";
  const wantGate = new Float32Array(270 * 333), wantDown = new Float32Array(333 * 270);
  for (let i = 0; i < 270; i++) {
    for (let j = 0; j < 333; j++) {
      const read = 1 / copies(j, 201, 333) / writes(j);
      wantGate[i * 333 + j] = weights.get(gate)![i % 133 * 201 + j % 201] * read;
      const write = weights.get(down)![j % 201 * 133 + i % 133] * (1 / copies(i, 133, 270)) * writes(j);
      wantDown[j * 270 + i] = write;
    }
  }
  assertEquals(grown.get(gate), wantGate);
  assertEquals(grown.get(down), wantDown);
});

Deno.test("read in any ranges it is the same, and no more is read than is needed", async () => {
  const source = smallConfig({ num_hidden_layers: 3 });
  const target = { ...source, hiddenSize: 20, heads: 6, intermediateSize: 33, layers: 5 };
  const weights = randomWeights(source);
  for (const method of ["fpi", "aki"] as const) {
    const options: GrowthOptions = {
      method,
      depth: "stack",
      width: "scaled-copies",
      noise: 0.1,
      spread: 0.2,
    };
    const whole = await grow(source, target, options, weights);
    let read = 0;
    const counted = memorySource(source, weights);
    const model = growModel(
      {
        config: source,
        read(name, start, length) {
          read += length;
          return counted.read(name, start, length);
        },
      },
      target,
      options,
    );
    for (const { name, shape } of parameterTable(target)) {
      const length = elements(shape), words = whole.get(name)!;
      for (const [start, count] of [[0, length], [1, length - 2], [Math.floor(length / 3), 1], [length, 0]]) {
        assertEquals(await model.read(name, start, count), words.slice(start, start + count), name);
      }
    }
    read = 0;
    await model.read("model.layers.4.mlp.gate_proj.weight", 3, 1);
    assertEquals(read, 12, "one source row");
    await assertRejects(() => model.read("lm_head.weight", 339, 2), RangeError);
  }
});

Deno.test("what cannot be grown is refused, with the reason and what would work", () => {
  const source = smallConfig(), moe = smallConfig({ num_local_experts: 2, num_experts_per_tok: 1 });
  const cases: [ModelConfig, ModelConfig, string][] = [
    [source, { ...source, kvHeads: 1 }, "the target must keep the source's 2 groups"],
    [source, { ...source, heads: 12, kvHeads: 4 }, "Cannot grow 4 heads in 2 groups to 12 in 4 groups"],
    [{ ...source, kvHeads: 4 }, { ...source, heads: 8, kvHeads: 2 }, "or have one for each head (8)"],
    [source, { ...source, heads: 7 }, "does not fit itself: 7 query heads"],
    [source, { ...source, hiddenSize: 8 }, "Cannot shrink the hidden size from 12 to 8"],
    [source, { ...source, intermediateSize: 19 }, "Cannot shrink the MLP width"],
    [source, { ...source, heads: 2 }, "Cannot shrink the number of query heads"],
    [source, { ...source, layers: 1 }, "Cannot shrink the number of layers from 2 to 1"],
    [source, { ...source, headDim: 8 }, "Cannot change the head size from 6 to 8"],
    [source, { ...source, vocabSize: 18 }, "Cannot change the vocabulary"],
    [source, { ...source, attentionBias: false }, "biases on q, k and v"],
    [source, { ...source, rmsNormEps: 1e-6 }, "epsilon"],
    [source, { ...source, ropeTheta: 1e4 }, "rotary base"],
    [source, { ...source, tiedEmbeddings: true }, "Cannot tie"],
    [source, moe, "Grow the dense model first, then upcycle it"],
    [moe, moe, "Only dense models are grown"],
  ];
  for (const [from, to, part] of cases) {
    const error = assertThrows(() => describeGrowth(from, to, fpi), GrowthError);
    assertStringIncludes(error.message, part);
    assertThrows(() => growModel(memorySource(from, new Map()), to, fpi), GrowthError);
  }
});

Deno.test("options are read by name, and the summary says what will be", () => {
  assertEquals(parseGrowthOptions({ method: "aki-pro" }), {
    ...fpi,
    method: "aki",
    spread: 0,
    noise: 0,
    seed: 0,
  });
  assertThrows(
    () => parseGrowthOptions({ method: "aki-pro", depth: "stack" }),
    GrowthError,
    "AKI-Pro interpolates",
  );
  assertThrows(() => parseGrowthOptions({ method: "magic" }), GrowthError, "known are fpi, aki, aki-inner");
  assertThrows(() => parseGrowthOptions({ metod: "fpi" }), GrowthError, "no option metod");
  assertThrows(() => parseGrowthOptions({ spread: 1 }), GrowthError, "spread is 1");
  assertThrows(() => parseGrowthOptions({ noise: -1 }), GrowthError, "noise is -1");
  const source = smallConfig(),
    summary = describeGrowth(source, { ...source, hiddenSize: 18, layers: 3 }, fpi);
  assertEquals(summary.lines.slice(0, 2), ["layers 2 -> 3", "hidden size 12 -> 18"]);
  assertStringIncludes(summary.lines.join("\n"), "scaled-copies");
  assertEquals(summary.diskBytes, 4 * summary.parameters.after);
});
