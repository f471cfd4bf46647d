/**
 * The forward pass of a mixture of experts (see moe_block.ts): the router's choices, the rows that they make and the way of
 * those that leave, the experts' sum.
 *
 * Legend: T rows, D hidden, E experts, k experts a token, R = T k assignments, slot = an expert's place by host.
 *
 * @module
 */
import {
  combine,
  dispatchCount,
  dispatchPlace,
  matmulNT,
  part,
  rmsNorm,
  routerStats,
  routerTopK,
  type View,
} from "../../kernels/mod.ts";
import { Scope } from "../scope.ts";
import { expertsForward, roundedRows } from "./held_experts.ts";
import { addDown, gatedForward } from "./mlp_block.ts";
import type { MoeBlock, MoeKept, MoeReplay } from "./moe_block.ts";
import { askForward } from "./moe_rows.ts";
import type { Pass } from "./pass.ts";

/** A forward pass whose rows may be away: what else is given to the device now is computed meanwhile. */
export interface MoeForward {
  /** y [T, D] = residual + the experts' output, and what was kept. The residual stays the caller's. */
  finish(residual: View): Promise<{ y: View; kept: MoeKept }>;
}

/** y [T, D] = x + the experts' output for norm(x), the caller's, and what was kept; otherwise as {@linkcode moeBegin}. */
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
 * Begins with rows of x [T, D]; x and `stats` ({@linkcode statsWords} words) stay the caller's. With `replay` (what
 * {@linkcode shrink} left) the answers of other workers are not asked for again. Where others fail to answer, `finish` throws.
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
