/**
 * What a device says about itself.
 *
 * @module
 */

/** What a device says about itself; shown to people and used as the key of measured tunings. */
export interface DeviceInfo {
  readonly kind: "webgpu" | "reference";
  /** For people: the adapter's own description. */
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** Whether the adapter computes on the CPU (lavapipe, SwiftShader). */
  readonly software: boolean;
  /** Lanes of every subgroup, where that is one number and programs may speak of subgroups; otherwise 0. */
  readonly subgroup: number;
  /** Largest span that a kernel can bind, in bytes. */
  readonly maxBinding: number;
  /** Largest allocation, in bytes. */
  readonly maxAllocation: number;
}
