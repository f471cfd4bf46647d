/**
 * Would factors in f16 be worth having beside bf16? The same product of 512^3 (NT, the same tile) with factors in f32, in
 * packed bf16, in f16 unpacked from words, and in f16 as the adapter's own type where it offers `shader-f16`. Nothing is
 * wanted: docs/ draws the conclusion.
 *
 * @module
 */
import { cpuUsage } from "node:process";
import { UNPACK } from "../../kernels/matmul/products.ts";
import { type Tile, TOGETHER } from "../../kernels/matmul/tile.ts";
import { tileSource } from "../../kernels/matmul/tile_program.ts";
import { findAdapter } from "../../kernels/webgpu/adapter.ts";
import { CommandError } from "../../cli/verb.ts";
import { oneThread } from "../harness/adapter.ts";
import { subgroupHeader, withSubgroups } from "../../kernels/webgpu/subgroups.ts";
import type { BenchOptions } from "../harness/bench.ts";
import { median } from "../harness/statistics.ts";

/** One line for the list of benches. */
export const title = "factors of a product in f16 beside bf16 and f32";

const SIDE = 512;
/** Rounds of all programs in turns, of which the median counts, and calls of each in a round. */
const ROUNDS = 9, CALLS = 2;

const FEATURE: GPUFeatureName = "shader-f16";

const UNPACK_F16 = `fn unpack_four(words: vec2u) -> vec4f {
  return vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
}`;

/** A way to hold factors: the element type of a and b, what the program begins with, and the program. */
interface Form {
  readonly name: string;
  readonly element: string;
  readonly header?: string;
  readonly body: string;
}

function forms(own: boolean): Form[] {
  const tile: Omit<Tile, "packed"> = {
    layout: "nt",
    epilogue: "set",
    rows: 32,
    columns: 8,
    together: true,
    steps: 4,
    vectorA: true,
    vectorB: true,
    vectorC: true,
    grouped: false,
  };
  const plain = tileSource({ ...tile, packed: false }, TOGETHER);
  const packed = tileSource({ ...tile, packed: true }, TOGETHER);
  const body = packed.slice(UNPACK.join("\n").length + 1);
  return [
    { name: "f32", element: "vec4f", body: plain },
    { name: "bf16, packed", element: "vec2u", body: packed },
    { name: "f16, unpack2x16float", element: "vec2u", body: `${UNPACK_F16}\n${body}` },
    ...(own
      ? [{
        name: "f16, vec4h",
        element: "vec4h",
        header: "enable f16;\n",
        body: plain.replace(/= ([ab]\[[^\]]+\]);/g, "= vec4f($1);"),
      }]
      : []),
  ];
}

function source({ element, header = "", body }: Form, subgroups: string): string {
  return `${header}${subgroups}@group(0) @binding(0) var<storage, read> a: array<${element}>;
@group(0) @binding(1) var<storage, read> b: array<${element}>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;
struct Params { m: u32, n: u32, k: u32, accumulate: u32 }
@group(0) @binding(3) var<uniform> params: Params;
fn linear_workgroup(id: vec3u, count: vec3u) -> u32 {
  return id.x + id.y * count.x;
}
${body}`;
}

/** Measures and prints: CPU milliseconds, which on a software adapter of one thread are its own. */
export async function run({ record, print }: BenchOptions): Promise<void> {
  oneThread();
  const adapter = await findAdapter(), offered = adapter.features.has(FEATURE);
  const device = await withSubgroups(adapter, (features) =>
    adapter.requestDevice({
      requiredFeatures: offered ? [...features, FEATURE] : features,
    }));
  const subgroups = await subgroupHeader(device);
  if (subgroups === undefined) {
    throw new CommandError(
      `${adapter.info.description} has no subgroups, on which these programs are built: measure on another adapter.`,
    );
  }
  const buffer = (usage: number, bytes = 4 * SIDE * SIDE) => device.createBuffer({ size: bytes, usage });
  const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
  const params = buffer(GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST, 16);
  device.queue.writeBuffer(params, 0, new Uint32Array([SIDE, SIDE, SIDE, 0]));
  const a = buffer(storage), b = buffer(storage), c = buffer(storage);
  // A number in each format: the speed does not depend on which, as long as it is no denormal.
  for (const factor of [a, b]) {
    device.queue.writeBuffer(factor, 0, new Uint32Array(SIDE * SIDE).fill(0x3c003c00));
  }
  const programs = forms(offered).map((form) => {
    const module = device.createShaderModule({ code: source(form, subgroups) });
    const pipeline = device.createComputePipeline({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    const entries = [a, b, c, params].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    return { name: form.name, pipeline, group, times: [] as number[] };
  });
  for (let round = 0; round <= ROUNDS; round++) {
    for (const { pipeline, group, times } of programs) {
      const before = cpuUsage(), encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      for (let i = 0; i < CALLS; i++) pass.dispatchWorkgroups(SIDE / 32 * SIDE / (8 * TOGETHER));
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      const { user, system } = cpuUsage(before);
      // The first round compiles.
      if (round > 0) times.push((user + system) / 1000 / CALLS);
    }
  }
  device.destroy();
  const found = programs.map(({ name, times }) => ({ name, milliseconds: median(times) }));
  record({ adapter: adapter.info.description, offered, found });
  print(
    `${adapter.info.description}: shader-f16 is ${offered ? "" : "not "}offered; ${SIDE}^3, NT\n`,
    ...found.map(({ name, milliseconds }) => `${name.padEnd(22)} ${milliseconds.toFixed(2).padStart(6)} ms`),
  );
}
