/**
 * From a kernel's variant to a compute pipeline: declarations, compilation, and errors with the lines they are about.
 *
 * @module
 */
import { ShaderError } from "../errors.ts";
import type { Kernel, Params, Variant } from "../kernel.ts";

/** Bytes of one slot of parameters: the largest alignment of uniform offsets that WebGPU may ask for. */
export const PARAMS_BYTES = 256;

/** Lines of source shown before and after the line of an error. */
const CONTEXT_LINES = 3;

const PRELUDE = `fn linear_workgroup(id: vec3u, count: vec3u) -> u32 {
  return id.x + id.y * count.x;
}
`;

/**
 * The whole program of a variant: `header`, what the device wants before programs that speak of subgroups; one storage variable for each binding, in order from binding 0; then, where the
 * kernel has parameters, the uniform struct `params`; `linear_workgroup`; the variant's text.
 */
export function programSource(kernel: Kernel, variant: Variant<Params>, header: string): string {
  let source = variant.subgroup === undefined ? "" : header;
  let binding = 0;
  for (const [name, kind] of Object.entries(kernel.bindings)) {
    const [element, access] = kind.split(" ");
    const type = variant.elements?.[name] ?? element;
    const mode = access === "write" ? "read_write" : "read";
    source += `@group(0) @binding(${binding++}) var<storage, ${mode}> ${name}: array<${type}>;\n`;
  }
  const params = Object.entries(kernel.params);
  if (params.length > 0) {
    source += `struct Params {\n${params.map(([name, type]) => `  ${name}: ${type},\n`).join("")}}\n`;
    source += `@group(0) @binding(${binding}) var<uniform> params: Params;\n`;
  }
  return `${source}${PRELUDE}${variant.wgsl}`;
}

/** The layout of a kernel's bind group; the same for all its variants. Explicit, since unused bindings must stay. */
export function bindGroupLayout(device: GPUDevice, kernel: Kernel): GPUBindGroupLayout {
  const entries: GPUBindGroupLayoutEntry[] = Object.values(kernel.bindings).map((kind, binding) => ({
    binding,
    visibility: GPUShaderStage.COMPUTE,
    buffer: { type: kind.endsWith("write") ? "storage" as const : "read-only-storage" as const },
  }));
  if (Object.keys(kernel.params).length > 0) {
    entries.push({
      binding: entries.length,
      visibility: GPUShaderStage.COMPUTE,
      // The slot is said with each call: a bind group then serves calls that differ in nothing but parameters.
      buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: 0 },
    });
  }
  return device.createBindGroupLayout({ label: kernel.name, entries });
}

/** A pipeline and what becomes of its compilation. */
export interface Compiled {
  readonly pipeline: GPUComputePipeline;
  /** Resolves to nothing, or to what is wrong. */
  readonly error: Promise<ShaderError | undefined>;
}

/** Compiles a variant; `header` as in {@linkcode programSource}. */
export function compile(
  device: GPUDevice,
  layout: GPUBindGroupLayout,
  kernel: Kernel,
  variant: Variant<Params>,
  header: string,
): Compiled {
  const label = `${kernel.name}/${variant.name}`;
  const code = programSource(kernel, variant, header);
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label, code });
  const pipeline = device.createComputePipeline({
    label,
    layout: device.createPipelineLayout({ label, bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: "main" },
  });
  const error = device.popErrorScope().then(async (problem) => {
    if (problem === null) return undefined;
    const { messages } = await module.getCompilationInfo();
    const message = messages.find(({ type }) => type === "error");
    return describeError(label, code, message?.message ?? problem.message, message?.lineNum ?? 0);
  });
  return { pipeline, error };
}

function describeError(label: string, code: string, message: string, line: number): ShaderError {
  if (line === 0) return new ShaderError(`Kernel ${label} was refused: ${message.trim()}`);
  const lines = code.split("\n");
  const first = Math.max(1, line - CONTEXT_LINES);
  const shown = lines.slice(first - 1, line + CONTEXT_LINES).map((text, index) => {
    const number = first + index;
    return `${number === line ? ">" : " "} ${String(number).padStart(4)} | ${text}`;
  });
  return new ShaderError(
    `Kernel ${label} was refused at line ${line}: ${message.trim()}\n${shown.join("\n")}`,
  );
}
