/**
 * The matrix products of a model in one of two precisions, and what they take.
 *
 * An *operand* is a matrix in the form that products read: plain f32 rows, or in bf16 packed ones (two elements in a word). With
 * bf16 both factors of a product are rounded to it and the sums are f32. Master weights, activations between blocks, norms,
 * softmaxes, the router and the optimizer stay f32: they cost little, and the router's choices should not hang on rounding
 * (Fedus et al. 2021, section 2.4).
 *
 * @module
 */
import {
  type Device,
  gatherRows,
  gatherRowsPacked,
  groupedNN,
  groupedNNPacked,
  groupedNT,
  groupedNTPacked,
  groupedTN,
  groupedTNPacked,
  matmulNN,
  matmulNNPacked,
  matmulNT,
  matmulNTAdd,
  matmulNTAddPacked,
  matmulNTBias,
  matmulNTBiasPacked,
  matmulNTPacked,
  matmulTN,
  matmulTNPacked,
  packedWidth,
  packRows,
  swiglu,
  swigluBackward,
  swigluBackwardPacked,
  swigluPacked,
  type View,
} from "../../kernels/mod.ts";
import type { Precision } from "../precision.ts";
import type { Scope } from "../scope.ts";

/** Kernels that read or write operands, named as those of f32, and how operands are made. */
export interface Products {
  readonly precision: Precision;
  readonly matmulNT: typeof matmulNT;
  readonly matmulNTBias: typeof matmulNTBias;
  readonly matmulNTAdd: typeof matmulNTAdd;
  readonly matmulNN: typeof matmulNN;
  readonly matmulTN: typeof matmulTN;
  readonly groupedNT: typeof groupedNT;
  readonly groupedNN: typeof groupedNN;
  readonly groupedTN: typeof groupedTN;
  /** Writes an operand. */
  readonly swiglu: typeof swiglu;
  /** Writes an operand. */
  readonly swigluBackward: typeof swigluBackward;
  /** From operand rows to operand rows. */
  readonly gatherRows: typeof gatherRows;
  /** Words of an operand's row of `width` elements. */
  words(width: number): number;
  /** f32 rows [rows, width] as an operand: themselves, or packed into a span of `scope`. */
  operand(device: Device, scope: Scope, x: View, rows: number, width: number): View;
  /** The same for a span of `scope` that nothing else needs: where a packed copy replaces it, it is given back. */
  turned(device: Device, scope: Scope, x: View, rows: number, width: number): View;
}

const f32: Products = {
  precision: "f32",
  matmulNT,
  matmulNTBias,
  matmulNTAdd,
  matmulNN,
  matmulTN,
  groupedNT,
  groupedNN,
  groupedTN,
  swiglu,
  swigluBackward,
  gatherRows,
  words: (width) => width,
  operand: (_device, _scope, x) => x,
  turned: (_device, _scope, x) => x,
};

/** A packed kernel in the place of its f32 sibling: bindings have the same names, and their words are read by the kernel alone. */
function sibling<Kernel>(_plain: Kernel, packed: unknown): Kernel {
  return packed as Kernel;
}

const bf16: Products = {
  precision: "bf16",
  matmulNT: sibling(matmulNT, matmulNTPacked),
  matmulNTBias: sibling(matmulNTBias, matmulNTBiasPacked),
  matmulNTAdd: sibling(matmulNTAdd, matmulNTAddPacked),
  matmulNN: sibling(matmulNN, matmulNNPacked),
  matmulTN: sibling(matmulTN, matmulTNPacked),
  groupedNT: sibling(groupedNT, groupedNTPacked),
  groupedNN: sibling(groupedNN, groupedNNPacked),
  groupedTN: sibling(groupedTN, groupedTNPacked),
  swiglu: sibling(swiglu, swigluPacked),
  swigluBackward: sibling(swigluBackward, swigluBackwardPacked),
  gatherRows: sibling(gatherRows, gatherRowsPacked),
  words: packedWidth,
  operand(device, scope, x, rows, width) {
    const packed = scope.take(rows * packedWidth(width), "bf16 operand");
    device.run(packRows, { x, y: packed }, { rows, width });
    return packed;
  },
  turned(device, scope, x, rows, width) {
    const packed = bf16.operand(device, scope, x, rows, width);
    scope.drop(x);
    return packed;
  },
};

/** The products of a precision. */
export function productsOf(precision: Precision): Products {
  return precision === "bf16" ? bf16 : f32;
}
