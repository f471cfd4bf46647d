/**
 * What a layer asks of experts on other devices, as plain data. The network's side of it is in worker/.
 *
 * @module
 */
import type { Mode } from "./pass.ts";

/** Rows for the experts of one layer on another worker. */
export interface RowsForHost {
  readonly host: string;
  /** Rows of each expert that the host holds of this layer, in order of expert. */
  readonly counts: Uint32Array<ArrayBuffer>;
  /** f32 [sum of counts, hidden]. */
  readonly rows: ArrayBuffer;
}

/** One layer's rows for all hosts that have any. */
export interface RowExchange {
  readonly layer: number;
  readonly microbatch: number;
  /** Rows go out and unweighted outputs come back, or weighted output gradients out and input gradients back. */
  readonly pass: "forward" | "backward";
  readonly mode: Mode;
  readonly parts: readonly RowsForHost[];
}

/** Answers with f32 rows for each part, in the order of the parts. */
export type RowExchanger = (exchange: RowExchange) => Promise<ArrayBuffer[]>;

/** The slots of one layer: experts in order of their hosts, this device's own first. */
export interface Slots {
  /** The slot of each expert. */
  readonly slotOf: Uint32Array<ArrayBuffer>;
  /** This device's experts: slots 0..own. */
  readonly own: number;
  /** Other hosts, each with the slots first..first + count. */
  readonly remote: readonly { readonly host: string; readonly first: number; readonly count: number }[];
}

/** Orders experts by host so that each host's rows are contiguous: own experts first, then hosts by name. */
export function slotsOf(hosts: readonly string[], self: string): Slots {
  const names = [...new Set(hosts)].filter((host) => host !== self).sort();
  const slotOf = new Uint32Array(hosts.length);
  let next = 0;
  const place = (name: string) => {
    const first = next;
    hosts.forEach((host, expert) => {
      if (host === name) slotOf[expert] = next++;
    });
    return { host: name, first, count: next - first };
  };
  const own = place(self).count;
  return { slotOf, own, remote: names.map(place) };
}
