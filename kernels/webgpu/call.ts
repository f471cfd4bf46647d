/**
 * What a call becomes: a variant, and workgroups in three dimensions.
 *
 * @module
 */
import type { DeviceInfo } from "../device_info.ts";
import { DeviceError, ShaderError } from "../errors.ts";
import type { Grid, Kernel, Params, Values, Variant } from "../kernel.ts";

/** The named variant, the one that the kernel prefers here, or the last that fits. */
export function chooseVariant(
  kernel: Kernel,
  values: Values<Params>,
  info: DeviceInfo,
  named?: string,
): Variant<Params> {
  const { variants } = kernel;
  const name = named ?? kernel.prefer?.(values, info);
  if (name !== undefined) {
    const variant = variants.find((variant) => variant.name === name);
    if (variant === undefined) throw new ShaderError(`Kernel ${kernel.name} has no variant ${name}`);
    if (variant.fits?.(values) === false) {
      throw new ShaderError(
        `Variant ${name} of kernel ${kernel.name} does not fit ${JSON.stringify(values)}`,
      );
    }
    if (variant.subgroup !== undefined && variant.subgroup !== info.subgroup) {
      throw new ShaderError(
        `Variant ${name} of kernel ${kernel.name} needs subgroups of ${variant.subgroup} lanes, ` +
          `${info.name} has ${info.subgroup || "none of one size"}`,
      );
    }
    return variant;
  }
  for (let i = variants.length - 1; i >= 0; i--) {
    const { fits, subgroup = info.subgroup } = variants[i];
    if (subgroup === info.subgroup && fits?.(values) !== false) return variants[i];
  }
  throw new ShaderError(`No variant of kernel ${kernel.name} fits ${JSON.stringify(values)}`);
}

/** Workgroups in three dimensions; a linear count beyond one dimension goes on in the next row. */
export function foldGrid(grid: Grid, most: number, name: string): readonly [number, number, number] {
  const [x, y, z] = typeof grid === "number"
    ? grid <= most ? [grid, 1, 1] : [most, Math.ceil(grid / most), 1]
    : grid;
  if (x > most || y > most || z > most) {
    throw new DeviceError(
      `Cannot run ${name}: ${x} x ${y} x ${z} workgroups, at most ${most} in each dimension`,
    );
  }
  return [x, y, z];
}
