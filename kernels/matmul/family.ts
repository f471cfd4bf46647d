/**
 * What the kernels for matrix products tell about themselves, so that their variants can be made and chosen.
 *
 * @module
 */
import type { Params, Values } from "../kernel.ts";
import type { Epilogue, Layout } from "./tile.ts";

/** The sizes that decide, whatever a kernel calls them: the sums that a call takes, and what a tile must divide. */
export interface Shape {
  /** Rows and columns of the result (rows of all groups together), and terms of each sum. */
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Matrices in the call; 1 where there are no groups. */
  readonly groups: number;
}

/** What makes the variants of one kernel. */
export interface Family<P extends Params> {
  readonly layout: Layout;
  /** One program for each: setting and accumulating, where the call says which, or the only one. */
  readonly epilogues: readonly Epilogue[];
  /** Which of them a call wants. */
  readonly epilogue: (values: Values<P>) => Epilogue;
  readonly grouped: boolean;
  /** Whether a and b are packed bf16. */
  readonly packed?: boolean;
  readonly shape: (values: Values<P>) => Shape;
  /** The call's parameters for another shape; the first group is then 0. */
  readonly withShape: (values: Values<P>, shape: Shape) => Values<P>;
}

/** For kernels whose parameter `accumulate` says whether sums overwrite (0) or add. */
export const setOrAccumulate = {
  epilogues: ["set", "accumulate"] as const,
  epilogue: ({ accumulate }: { readonly accumulate: number }): Epilogue =>
    accumulate === 0 ? "set" : "accumulate",
};

/** For kernels that end in one way only. */
export function always(epilogue: Epilogue): { epilogues: readonly Epilogue[]; epilogue: () => Epilogue } {
  return { epilogues: [epilogue], epilogue: () => epilogue };
}
