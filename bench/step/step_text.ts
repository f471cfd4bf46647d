/**
 * What `bench step` found, for people.
 *
 * @module
 */
import type { Precision } from "../../model/precision.ts";
import type { Limits } from "../kernels/limits.ts";
import { BATCH, SEQUENCE } from "./step_model.ts";

/** Share of the peer's tokens a second that a step must reach, by precision. */
export const LEAST: Readonly<Record<Precision, number>> = { f32: 0.2, bf16: 0.26 };

/** A kernel's part of a step. */
export interface KernelShare {
  readonly name: string;
  readonly calls: number;
  readonly ms: number;
  readonly gflops: number;
  readonly gigabytes: number;
  /** The larger of its shares of the two limits, and which. */
  readonly share: number;
  readonly bound: "arithmetic" | "memory";
}

/** What was found in one precision. */
export interface PrecisionResult {
  readonly precision: Precision;
  readonly stepMs: number;
  readonly tokensPerSecond: number;
  /** Operations of all kernels of a step over its time, as a share of the measured limit. */
  readonly shareOfArithmetic: number;
  /** Cross-entropy of the first and of the last step. */
  readonly loss: readonly [number, number];
  readonly ratio: number | undefined;
  readonly kernels: readonly KernelShare[];
}

/** What was found. */
export interface StepResult {
  readonly device: string;
  readonly parameters: number;
  readonly limit: Limits;
  readonly peerTokensPerSecond: number | undefined;
  readonly peerAbsent: string | undefined;
  readonly precisions: readonly PrecisionResult[];
  readonly activations: readonly { readonly sequence: number; readonly bytes: number }[];
}

/** The lines of text. */
export function describe(result: StepResult): string[] {
  const { limit, peerTokensPerSecond, peerAbsent } = result;
  const lines = [
    `${result.device}: ${limit.gflops.toFixed(1)} GFLOPS, ${limit.gigabytes.toFixed(1)} GB/s; ` +
    `${(result.parameters / 1e6).toFixed(2)} M parameters, batch ${BATCH} x ${SEQUENCE}`,
    peerTokensPerSecond === undefined
      ? `PyTorch is absent (${peerAbsent})`
      : `PyTorch on one thread: ${peerTokensPerSecond} tokens/s`,
  ];
  for (
    const { precision, stepMs, tokensPerSecond, shareOfArithmetic, loss, ratio, kernels } of result.precisions
  ) {
    const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
    lines.push(
      "",
      `${precision}: step ${stepMs.toFixed(1)} ms, ${tokensPerSecond.toFixed(0)} tokens/s` +
        (ratio === undefined ? "" : `, ${ratio.toFixed(3)} of PyTorch (at least ${LEAST[precision]})`) +
        `; ${(100 * shareOfArithmetic).toFixed(0)} % of the arithmetic limit; ` +
        `loss ${loss[0].toFixed(3)} -> ${loss[1].toFixed(3)}`,
      `${"kernel".padEnd(24)}${"calls".padStart(6)}${"ms".padStart(9)}${"share".padStart(8)}` +
        `${"GFLOPS".padStart(9)}${"GB/s".padStart(8)}  of its limit`,
      ...kernels.map(({ name, calls, ms, gflops, gigabytes, share, bound }) =>
        `${name.padEnd(24)}${String(calls).padStart(6)}${ms.toFixed(2).padStart(9)}` +
        `${(100 * ms / total).toFixed(1).padStart(7)}%${gflops.toFixed(1).padStart(9)}` +
        `${gigabytes.toFixed(1).padStart(8)}  ${(100 * share).toFixed(0).padStart(3)} % ${bound}`
      ),
      `${"sum".padEnd(30)}${total.toFixed(2).padStart(9)}`,
    );
  }
  const [shortest] = result.activations;
  lines.push(
    "",
    "activation memory of one sequence: " +
      result.activations.map(({ sequence, bytes }) =>
        `${sequence} tokens ${(bytes / 2 ** 20).toFixed(1)} MiB (${(bytes / shortest.bytes).toFixed(2)} x)`
      ).join(", "),
  );
  return lines;
}
