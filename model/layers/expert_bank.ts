/**
 * All experts that one device holds, of any layers, and the rows of other workers that are its guests between their two
 * passes.
 *
 * @module
 */
import { type Device, part, type View } from "../../kernels/mod.ts";
import type { ModelConfig } from "../config.ts";
import type { RowExchange, RowsForHost } from "./expert_exchange.ts";
import {
  expertsBackward,
  expertsForward,
  type ExpertsKept,
  type GroupedRows,
  type HeldExperts,
  roundedRows,
} from "./held_experts.ts";
import type { Parameters } from "../parameters.ts";
import { type Products, productsOf } from "./products.ts";
import { Scope } from "../scope.ts";
import { WeightsLater } from "./weight_work.ts";

/** A request for experts held here: {@linkcode RowExchange} with the one part that is ours. */
export type HostRequest = Omit<RowExchange, "parts"> & { readonly part: Omit<RowsForHost, "host"> };

/** A request that does not fit what is held or what came before. */
export class ExpertRequestError extends Error {
  override readonly name = "ExpertRequestError";
}

/** Rows of another worker between their two passes. */
interface Guest {
  /** Holds `grouped` and `kept`. */
  readonly scope: Scope;
  readonly grouped: GroupedRows;
  /** The real number of rows. */
  readonly count: number;
  /** Absent where it is computed again in the backward pass. */
  readonly kept: ExpertsKept | undefined;
}

/** The experts of all layers, and their guests. */
export class ExpertBank {
  readonly #device: Device;
  readonly #config: ModelConfig;
  readonly #products: Products;
  readonly #recompute: boolean;
  readonly #layers = new Map<number, HeldExperts>();
  readonly #guests = new Map<string, Guest>();
  /** What backward passes over guests' rows left to do. */
  readonly #owed = new Map<string, WeightsLater>();

  /** `recompute`: keep only the rows of a forward pass and compute the rest again in the backward pass. */
  constructor(device: Device, parameters: Parameters, options: { readonly recompute: boolean }) {
    this.#device = device;
    this.#config = parameters.config;
    this.#products = productsOf(parameters.precision);
    this.#recompute = options.recompute;
    for (const [layer, experts] of parameters.holding.experts) {
      if (experts.length === 0) continue;
      this.#layers.set(layer, {
        experts,
        gateUp: parameters.block("experts-gate-up", layer),
        down: parameters.block("experts-down", layer),
      });
    }
  }

  /** The held experts of a layer; undefined where there is none. */
  layer(layer: number): HeldExperts | undefined {
    return this.#layers.get(layer);
  }

  /**
   * Runs a layer's experts on another worker's rows and answers with f32 rows for as many: outputs of the forward pass, input
   * gradients of the backward pass. The asker waits for these alone, so a backward pass keeps what
   * {@linkcode ExpertBank.hostWeights} needs.
   *
   * @throws {ExpertRequestError} Where no expert of the layer is held or sizes do not fit, where a forward pass comes again
   * before its backward pass, or a backward pass has had no forward pass of as many rows.
   */
  async host(request: HostRequest): Promise<ArrayBuffer> {
    const held = this.#layers.get(request.layer);
    if (held === undefined) {
      throw new ExpertRequestError(`No experts of layer ${request.layer} are held here`);
    }
    const count = this.#checkSize(request, held);
    const scope = new Scope(this.#device);
    try {
      const answer = request.pass === "forward"
        ? this.#forward(request, held, count, scope)
        : this.#backward(request, held, count, scope);
      const [bytes] = await this.#device.read([part(answer, 0, count * this.#config.hiddenSize)]);
      return bytes;
    } finally {
      scope.release();
    }
  }

  /**
   * The rest of a backward pass: adds to the gradients of a layer's experts. Gradients are sums in the order of these calls:
   * each comes before the next backward pass over rows of the same layer.
   *
   * @throws {ExpertRequestError} Where that pass did not come before.
   */
  hostWeights(layer: number, microbatch: number): void {
    const key = `${layer} ${microbatch}`, weights = this.#owed.get(key);
    if (weights === undefined) {
      throw new ExpertRequestError(
        `The experts' weights of layer ${layer}, microbatch ${microbatch} come before the gradients of its rows`,
      );
    }
    this.#owed.delete(key);
    weights.finish();
  }

  #checkSize({ layer, part }: HostRequest, held: HeldExperts): number {
    const count = part.counts.reduce((sum, rows) => sum + rows, 0);
    const bytes = count * this.#config.hiddenSize * 4;
    if (part.counts.length !== held.experts.length || part.rows.byteLength !== bytes || count === 0) {
      throw new ExpertRequestError(
        `Rows for layer ${layer} do not fit: ${part.counts.length} counts for ${held.experts.length} experts, ` +
          `${part.rows.byteLength} bytes for ${count} rows of ${this.#config.hiddenSize * 4} bytes`,
      );
    }
    return count;
  }

  #upload(words: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>, view: View): View {
    this.#device.write(view, words);
    return view;
  }

  #forward(
    { layer, microbatch, mode, part: { counts, rows } }: HostRequest,
    held: HeldExperts,
    count: number,
    scope: Scope,
  ): View {
    const key = `${layer} ${microbatch}`;
    if (this.#guests.has(key)) {
      throw new ExpertRequestError(`Rows of layer ${layer}, microbatch ${microbatch} came twice`);
    }
    const stay = new Scope(this.#device);
    const offsets = new Uint32Array(counts.length + 1);
    counts.forEach((rows, i) => offsets[i + 1] = offsets[i] + rows);
    const { hiddenSize: D } = this.#config;
    const rounded = roundedRows(count), words = rounded * D;
    const received = this.#upload(new Float32Array(rows), stay.take(words, "guest rows"));
    const grouped: GroupedRows = {
      rows: this.#products.turned(this.#device, stay, received, rounded, D),
      offsets: this.#upload(offsets, stay.take(offsets.length, "guest offsets")),
      count: rounded,
    };
    const out = scope.take(words, "guest outputs");
    const keep = mode === "train" && !this.#recompute;
    const kept = expertsForward(
      this.#device,
      this.#products,
      this.#config,
      held,
      grouped,
      out,
      keep ? stay : scope,
    );
    if (mode === "train") {
      this.#guests.set(key, { scope: stay, grouped, count, kept: keep ? kept : undefined });
    } else stay.release();
    return out;
  }

  #backward(
    { layer, microbatch, part: { rows } }: HostRequest,
    held: HeldExperts,
    count: number,
    scope: Scope,
  ): View {
    const key = `${layer} ${microbatch}`;
    const guest = this.#guests.get(key);
    if (guest === undefined || guest.count !== count) {
      throw new ExpertRequestError(
        `Gradients of ${count} rows of layer ${layer}, microbatch ${microbatch} came, but ` +
          `${guest?.count ?? "no"} rows went forward`,
      );
    }
    this.#guests.delete(key);
    const words = guest.grouped.count * this.#config.hiddenSize, stay = new Scope(this.#device);
    const kept = guest.kept ?? expertsForward(
      this.#device,
      this.#products,
      this.#config,
      held,
      guest.grouped,
      scope.take(words, "guest outputs"),
      stay,
    );
    const dout = this.#upload(new Float32Array(rows), stay.take(words, "guest output gradients"));
    const din = scope.take(words, "guest row gradients");
    const weights = new WeightsLater(this.#device);
    expertsBackward(
      this.#device,
      this.#products,
      weights,
      this.#config,
      held,
      guest.grouped,
      kept,
      dout,
      din,
    );
    weights.release(guest.scope);
    weights.release(stay);
    this.#owed.set(key, weights);
    return din;
  }
}
