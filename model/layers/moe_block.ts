/**
 * The second half of a mixture-of-experts layer: y = x + sum over the chosen experts of weight * expert(norm(x)),
 * plus shared(norm(x)) where there is a shared expert: an MLP that every token visits.
 *
 * Rows of experts that live elsewhere leave in the middle of the pass and come back unweighted; this device weights and
 * adds all rows in order of rank, so that nothing depends on where an expert lives or who answers first. The shared expert
 * lives with the stage and is added last; all but that addition is computed while others' answers are under way.
 *
 * Legend: T rows, D hidden, E experts, k experts a token, R = T k assignments, slot = an expert's place by host.
 *
 * @module
 */
import {
  combine,
  combineBackward,
  dispatchCount,
  dispatchPlace,
  matmulNN,
  matmulNT,
  matmulTN,
  part,
  rmsNorm,
  routerBackward,
  routerStats,
  routerTopK,
  sumRows,
  type View,
} from "../../kernels/mod.ts";
import { normBackward } from "./attention_block.ts";
import {
  expertsBackward,
  expertsForward,
  type ExpertsKept,
  type HeldExperts,
  roundedRows,
} from "./held_experts.ts";
import {
  addDown,
  gatedBackward,
  gatedForward,
  type GatedKept,
  type GatedMlp,
  inputGradient,
} from "./mlp_block.ts";
import { ask, askForward, type Asking, free } from "./moe_rows.ts";
import { type BoundBlock, trained } from "../parameters.ts";
import type { Pass } from "./pass.ts";
import { Scope } from "../scope.ts";

/** The tensors of this half and where its experts are. */
export interface MoeBlock extends Asking {
  readonly norm: BoundBlock;
  /** [E, D] */
  readonly router: BoundBlock;
  /** The expert that every token visits; undefined where the model has none. */
  readonly shared: GatedMlp | undefined;
  /** This device's experts of the layer. */
  readonly held: HeldExperts | undefined;
  /** u32 [E], `slots.slotOf` on the device. */
  readonly slotOf: View;
  /** Where balancing looks at more than a microbatch: statistics whose f is of all of it. See {@linkcode Balance}. */
  readonly balance: Balance;
}

/**
 * What experts of a layer are balanced over. Without `stats` each microbatch is for itself; with them f of the balancing
 * loss is the share of assignments in the whole batch of the step before, P stays the microbatch's own, and the gradient
 * goes through P only (Qiu et al., "Demons in the Detail", 2025).
 */
export interface Balance {
  stats?: View;
  /** The same f [E] on the host. */
  shares?: Float32Array<ArrayBuffer>;
}

/** Rows that other workers answered. */
export interface MoeReplay {
  /** First row of each slot, and the end: u32 [E + 1] on the host. */
  readonly offsets: Uint32Array<ArrayBuffer>;
  /** The answers [rows of other hosts, D], where all else is computed again. */
  readonly answers?: View;
}

/** What the backward pass needs, in `scope`. */
export interface MoeKept {
  readonly scope: Scope;
  /** f32 [T, D]: what the router sees. */
  readonly normed: View;
  /** The same as an operand: what the experts see. */
  readonly operand: View;
  /** [T] */
  readonly inverse: View;
  /** [T, E] */
  readonly logits: View;
  /** [R] */
  readonly weights: View;
  /** u32 [R] */
  readonly experts: View;
  /** u32 [R]: the row of each assignment. */
  readonly position: View;
  /** u32 [E + 1] */
  readonly offsets: View;
  /** [2E + 1], not in `scope`. */
  readonly stats: View;
  /** Rows that stayed here (operand [at least count, D]); absent where there is none. */
  readonly own: { readonly rows: View; readonly count: number; readonly kept: ExpertsKept } | undefined;
  /** All rows' outputs [R, D]. */
  readonly out: View;
  readonly remote: MoeReplay | undefined;
  readonly shared: GatedKept | undefined;
}

/** Words of the statistics of one layer's router (see the kernel `routerStats`). */
export function statsWords(experts: number): number {
  return 2 * experts + 1;
}

/** A forward pass whose rows may be away: what else is given to the device now is computed meanwhile. */
export interface MoeForward {
  /** y [T, D] = residual + the experts' output, and what was kept. The residual stays the caller's. */
  finish(residual: View): Promise<{ y: View; kept: MoeKept }>;
}

/** y [T, D] = x + the experts' output for norm(x), and what was kept; otherwise as {@linkcode moeBegin}. */
export async function moeForward(
  pass: Pass,
  block: MoeBlock,
  x: View,
  stats: View,
  replay?: MoeReplay,
): Promise<{ y: View; kept: MoeKept }> {
  return await (await moeBegin(pass, block, x, stats, replay)).finish(x);
}

/**
 * Begins with rows of x [T, D]; x and `stats` stay the caller's. With `replay` (what {@linkcode shrink} left) the answers of
 * other workers are not asked for again.
 */
export async function moeBegin(
  pass: Pass,
  block: MoeBlock,
  x: View,
  stats: View,
  replay?: MoeReplay,
): Promise<MoeForward> {
  const { device, products, rows: T, config } = pass;
  const { hiddenSize: D, experts: E, expertsPerToken: chosen, rmsNormEps: eps } = config;
  const R = T * chosen;
  const scope = new Scope(device);
  const normed = scope.take(T * D, "normed input");
  const inverse = scope.take(T, "inverse norms");
  device.run(rmsNorm, { x, gain: block.norm.weight, y: normed, inverse }, { rows: T, width: D, eps });
  const operand = products.operand(device, scope, normed, T, D);
  const logits = scope.take(T * E, "router logits");
  device.run(matmulNT, { a: normed, b: block.router.weight, c: logits }, { m: T, n: E, k: D, accumulate: 0 });
  const weights = scope.take(R, "gate weights");
  const experts = scope.take(R, "chosen experts");
  device.run(routerTopK, { logits, weights, experts }, { rows: T, experts: E, chosen });
  device.run(routerStats, { logits, experts, stats }, { rows: T, experts: E, chosen });
  const counts = scope.take(E, "rows of each slot");
  const offsets = scope.take(E + 1, "first row of each slot");
  const position = scope.take(R, "row of each assignment");
  const source = scope.take(R, "assignment of each row");
  device.run(dispatchCount, { experts, slotOf: block.slotOf, counts }, { assignments: R, experts: E });
  device.run(dispatchPlace, { experts, slotOf: block.slotOf, counts, offsets, position, source }, {
    assignments: R,
    experts: E,
  });
  const out = scope.take(R * D, "experts' outputs");

  const { own: ownSlots, remote: hosts } = block.slots;
  let remote: MoeReplay | undefined;
  let answered: Promise<void> | undefined;
  if (hosts.length > 0) {
    if (replay?.answers) {
      remote = { offsets: replay.offsets };
      const first = replay.offsets[ownSlots] * D;
      device.copy(replay.answers, part(out, first, replay.answers.length));
    } else if (replay) {
      remote = replay;
    } else {
      const read = await device.readJoined([
        part(offsets, 0, E + 1),
        part(source, 0, R),
        part(normed, 0, T * D),
      ]);
      remote = { offsets: new Uint32Array(read, 0, E + 1).slice() };
      answered = askForward(
        pass,
        block,
        remote.offsets,
        new Float32Array(read, 4 * (E + 1 + R)),
        new Uint32Array(read, 4 * (E + 1), R),
        out,
      );
      answered.catch(() => {}); // awaited below; a failure before that must not go unhandled
    }
  }

  const real = remote ? remote.offsets[ownSlots] : R;
  let own: MoeKept["own"];
  if (block.held !== undefined && real > 0) {
    const count = Math.min(roundedRows(real), R);
    // The kernel counts in tokens, k rows each: some rows beyond `count` may come along.
    const tokens = Math.ceil(count / chosen);
    const rows = scope.take(tokens * chosen * products.words(D), "own rows");
    device.run(products.gatherRows, { x: operand, source, y: rows }, { rows: tokens, width: D, chosen });
    own = {
      rows,
      count,
      kept: expertsForward(device, products, config, block.held, { rows, offsets, count }, out, scope),
    };
  }
  const shared = block.shared && gatedForward(pass, block.shared, operand, scope);
  return {
    async finish(residual) {
      if (answered) device.flush();
      await answered;
      scope.drop(counts);
      scope.drop(source);
      const y = device.allocate(T * D, "layer output");
      device.run(combine, { residual, rows: out, weights, position, y }, { rows: T, width: D, chosen });
      if (block.shared && shared) addDown(pass, block.shared, shared.inner, y);
      const chosenRows = { weights, experts, position, offsets, stats };
      return {
        y,
        kept: { scope, normed, operand, inverse, logits, ...chosenRows, own, out, remote, shared },
      };
    },
  };
}

/** Releases everything but what other workers answered, for a pass that is computed again. */
export function shrink(pass: Pass, block: MoeBlock, kept: MoeKept): MoeReplay | undefined {
  const { device, config } = pass;
  let left: MoeReplay | undefined;
  if (kept.remote) {
    const first = kept.remote.offsets[block.slots.own] * config.hiddenSize;
    const words = pass.rows * config.expertsPerToken * config.hiddenSize - first;
    if (words > 0) {
      const answers = device.allocate(words, "answers of other workers");
      device.copy(part(kept.out, first, words), answers);
      left = { offsets: kept.remote.offsets, answers };
    } else {
      left = { offsets: kept.remote.offsets };
    }
  }
  kept.scope.release();
  return left;
}

/** A backward pass whose rows may be away. */
export interface MoeBackward {
  /** Adds the gradient of x, the input of the forward pass, to dx [T, D]. Releases what was kept. */
  finish(x: View, dx: View): Promise<void>;
}

/** Turns dy [T, D] into dx in place and adds to the gradients. Releases what was kept. */
export async function moeBackward(
  pass: Pass,
  block: MoeBlock,
  x: View,
  kept: MoeKept,
  dy: View,
): Promise<void> {
  await (await moeBackwardBegin(pass, block, kept, dy)).finish(x, dy);
}

/** Begins with dy [T, D], the gradient of the experts' output, which may change behind this call. */
export async function moeBackwardBegin(
  pass: Pass,
  block: MoeBlock,
  kept: MoeKept,
  dy: View,
): Promise<MoeBackward> {
  const { device, products, weights: weightWork, rows: T, config, microbatches } = pass;
  const { hiddenSize: D, experts: E, expertsPerToken: chosen } = config;
  const R = T * chosen;
  const norm = trained(block.norm), router = trained(block.router);
  const scope = new Scope(device);
  const { weights, position } = kept;
  const drows = scope.take(R * D, "gradients of experts' outputs");
  const dweights = scope.take(R, "gradients of gate weights");
  device.run(combineBackward, { dy, rows: kept.out, weights, position, drows, dweights }, {
    rows: T,
    width: D,
    chosen,
  });
  const din = scope.take(R * D, "gradients of experts' inputs");
  const first = kept.remote ? kept.remote.offsets[block.slots.own] : R;
  let answered: Promise<void> | undefined;
  if (kept.remote && first < R) {
    const [bytes] = await device.read([part(drows, first * D, (R - first) * D)]);
    const words = new Float32Array(bytes);
    // Where one host has all of them, nothing needs to be copied.
    const whole = block.slots.remote.length === 1;
    const rowsOf = (start: number, end: number) =>
      whole ? words : words.slice((start - first) * D, (end - first) * D);
    answered = ask(pass, block, "backward", kept.remote.offsets, din, rowsOf);
    if (!whole) free(words); // the rows are made by now
    answered.catch(() => {}); // awaited below; a failure before that must not go unhandled
  }
  if (block.held !== undefined && kept.own) {
    const { rows, count } = kept.own;
    const grouped = { rows, offsets: kept.offsets, count };
    expertsBackward(device, products, weightWork, config, block.held, grouped, kept.own.kept, drows, din);
  }
  const dlogits = scope.take(T * E, "gradient of router logits");
  const { logits, experts } = kept, stats = block.balance.stats ?? kept.stats;
  device.run(routerBackward, { logits, experts, weights, dweights, stats, dlogits }, {
    rows: T,
    experts: E,
    chosen,
    balance: config.balanceCoefficient / microbatches,
    z: config.zCoefficient / microbatches,
  });
  weightWork.run(matmulTN, { a: dlogits, b: kept.normed, c: router.gradient }, {
    m: E,
    n: D,
    k: T,
    accumulate: 1,
  });
  const dshared = block.shared && kept.shared &&
    gatedBackward(pass, block.shared, kept.operand, kept.shared, dy, scope);
  return {
    async finish(x, dx) {
      if (answered) device.flush();
      await answered;
      const dnormed = scope.take(T * D, "gradient of normed input");
      device.run(sumRows, { drows: din, position, dx: dnormed }, {
        rows: T,
        width: D,
        chosen,
        accumulate: 0,
      });
      device.run(matmulNN, { a: dlogits, b: router.weight, c: dnormed }, {
        m: T,
        n: D,
        k: E,
        accumulate: 1,
      });
      if (block.shared && dshared) inputGradient(pass, block.shared, dshared, dnormed, 1);
      normBackward(pass, norm, x, kept.inverse, dnormed, dx);
      weightWork.release(scope);
      weightWork.release(kept.scope);
    },
  };
}
