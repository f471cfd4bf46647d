/**
 * Whether programs may speak of subgroups: lanes that run in step and can hand each other values.
 *
 * @module
 */

/** The feature that has to be asked for. Deno does not list it among an adapter's features but grants it. */
const SUBGROUPS = "subgroups" as GPUFeatureName;

/** What the standard wants at the start of a program, and what Deno's compiler wants, which refuses that line. */
const HEADERS = ["enable subgroups;\n", ""];

const PROBE = `@compute @workgroup_size(8) fn main(@builtin(subgroup_invocation_id) lane: u32) {
  let first = subgroupBroadcast(lane, 0u);
}
`;

/** Lanes of each subgroup of an adapter, or 0 where that may vary or is not said. */
export function fixedSize(adapter: GPUAdapter): number {
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = adapter.info as {
    subgroupMinSize?: number;
    subgroupMaxSize?: number;
  };
  return subgroupMinSize === subgroupMaxSize ? subgroupMinSize : 0;
}

/** A device with the feature if that can be had; `request` asks for one with the features given. */
export async function withSubgroups(
  adapter: GPUAdapter,
  request: (features: GPUFeatureName[]) => Promise<GPUDevice>,
): Promise<GPUDevice> {
  if (fixedSize(adapter) === 0) return await request([]);
  try {
    return await request([SUBGROUPS]);
  } catch (error) {
    // The standard's answer to a feature that is not there; whatever else is wrong is wrong without it as well.
    if (error instanceof TypeError) return await request([]);
    throw error;
  }
}

/** How programs that speak of subgroups begin on this device; nothing where they are refused. */
export async function subgroupHeader(device: GPUDevice): Promise<string | undefined> {
  if (!device.features.has(SUBGROUPS)) return undefined;
  for (const header of HEADERS) {
    device.pushErrorScope("validation");
    device.createShaderModule({ label: "subgroup probe", code: header + PROBE });
    if (await device.popErrorScope() === null) return header;
  }
  return undefined;
}
