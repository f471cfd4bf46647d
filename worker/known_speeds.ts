/**
 * How fast devices were when they were measured, so that the next start need not measure again. A speed that was taken in
 * a bad moment does no lasting harm: real steps correct what the planner believes.
 *
 * @module
 */
import type { DeviceInfo } from "../kernels/mod.ts";
import type { Speed } from "./device_profile.ts";

/** Devices that the text may name: more than one machine has seen, in all versions of its drivers. */
const MOST = 64;

/** What is known, as the main thread hands it over. */
export interface SpeedOptions {
  /** What an earlier device said to `changed`; what does not fit or cannot be read is left aside. */
  readonly known?: string;
  /** What a speed depends on beside device, driver and runtime: a software adapter's threads, for instance. */
  readonly beside: string;
}

const FIELDS = ["flops", "bandwidth", "launch", "read"] as const;

/** Speeds by device, driver and runtime. */
export class KnownSpeeds {
  readonly #speeds: Map<string, Speed>;

  /** `runtime` names what compiles programs, with its version; `changed` gets the text to keep. */
  constructor(
    private readonly options: SpeedOptions,
    private readonly runtime: string,
    private readonly changed: (text: string) => void,
  ) {
    this.#speeds = parse(options.known);
  }

  #key({ name, vendor, architecture, subgroup }: DeviceInfo): string {
    return [name, vendor, architecture, subgroup, this.runtime, this.options.beside].join("; ");
  }

  find(info: DeviceInfo): Speed | undefined {
    return this.#speeds.get(this.#key(info));
  }

  keep(info: DeviceInfo, speed: Speed): void {
    const key = this.#key(info);
    this.#speeds.delete(key);
    this.#speeds.set(key, speed);
    this.changed(JSON.stringify(Object.fromEntries([...this.#speeds].slice(-MOST))));
  }
}

/** A text that cannot be read is no error: the device is measured. */
function parse(text: string | undefined): Map<string, Speed> {
  const found = new Map<string, Speed>();
  let value: unknown;
  try {
    value = JSON.parse(text ?? "{}");
  } catch {
    return found;
  }
  if (typeof value !== "object" || value === null) return found;
  for (const [key, speed] of Object.entries(value).slice(-MOST)) {
    const said = speed as Partial<Speed> | null;
    if (FIELDS.every((field) => Number.isFinite(said?.[field]) && said![field]! > 0)) {
      const { flops, bandwidth, launch, read } = said as Speed;
      found.set(key, { flops, bandwidth, launch, read });
    }
  }
  return found;
}
