/**
 * A device's measured speeds under a common factor: a share of its time, or what its steps have shown.
 *
 * @module
 */
import type { Profile } from "./control/messages.ts";

/** What a profile says about time. */
export type Speeds =
  & Pick<Profile, "flops">
  & Partial<Pick<Profile, "bandwidth" | "launch" | "read">>;

/** Everything `times` as fast; what was not measured stays so. */
export function timesAsFast({ flops, bandwidth, launch, read }: Speeds, times: number): Speeds {
  return {
    flops: flops * times,
    ...(bandwidth === undefined ? {} : { bandwidth: bandwidth * times }),
    ...(launch === undefined ? {} : { launch: launch / times }),
    ...(read === undefined ? {} : { read: read / times }),
  };
}

/** The geometric mean of each speed over those devices for which it was measured. */
export function meanSpeeds(devices: readonly Speeds[]): Speeds {
  const mean = (of: (device: Speeds) => number | undefined) => {
    const known = devices.map(of).filter((value) => value !== undefined && value > 0) as number[];
    if (known.length === 0) return undefined;
    return Math.exp(known.reduce((sum, value) => sum + Math.log(value), 0) / known.length);
  };
  const bandwidth = mean((device) => device.bandwidth), launch = mean((device) => device.launch);
  const read = mean((device) => device.read);
  return {
    flops: mean(({ flops }) => flops) ?? 0,
    ...(bandwidth === undefined ? {} : { bandwidth }),
    ...(launch === undefined ? {} : { launch }),
    ...(read === undefined ? {} : { read }),
  };
}
