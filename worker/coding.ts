/**
 * The codecs of a generation's links: what leaves is encoded as the plan says for its link, what arrives is decoded before
 * anyone else looks at it. Weights and what has no tensor always travel exactly.
 *
 * @module
 */
import { FrameError } from "../mesh/errors.ts";
import type { FrameHeader, What } from "../mesh/tensors/frame.ts";
import type { Slice } from "../mesh/plan.ts";
import {
  type Codec,
  decodeWords,
  encodeWords,
  lossless,
  offeredCodecs,
  type Zstd,
} from "../mesh/tensors/tensor_codec.ts";
import { PlanViolationError } from "./errors.ts";

/** Tensors that may lose some bits: their error is one of this round. */
const MAY_LOSE = new Set<What>([
  "activation",
  "gradient",
  "expert-input",
  "expert-output",
  "expert-output-gradient",
  "expert-input-gradient",
  "tied-gradient",
  "replica-gradient",
]);
/** Gradients of the same tensor each round: what rounding leaves out of one is added to the next. (Senders keep it for deltas.) */
const FEEDBACK = new Set<What>(["tied-gradient", "replica-gradient"]);
/** Bytes of exact parts (counts of rows) in front of the tensor say how many they are. */
const EXACT_BYTES = 4;

type Heading = Omit<FrameHeader, "generation">;

/** The codecs of a worker's links in one generation. */
export class Coding {
  readonly #codecs = new Map<string, Codec>();
  readonly #residuals = new Map<string, Float32Array<ArrayBuffer>>();

  /** Throws {@linkcode PlanViolationError} for a codec that this platform does not have. */
  constructor(slice: Slice, private readonly zstd: Zstd | undefined) {
    const offered = offeredCodecs(zstd);
    for (const { workers, codec } of slice.codecs ?? []) {
      if (!workers.includes(slice.self)) continue;
      if (!offered.includes(codec)) {
        throw new PlanViolationError(`The plan asks for ${codec}, which this worker does not offer`);
      }
      this.#codecs.set(workers[0] === slice.self ? workers[1] : workers[0], codec);
    }
  }

  /** The codec of the link to `peer` for frames of this kind. */
  #codecFor(peer: string, what: What): Codec {
    if (what === "replica-delta") return "int8"; // a twentieth of the traffic is the point of local training
    const codec = this.#codecs.get(peer) ?? "f32";
    return MAY_LOSE.has(what) || lossless(codec) ? codec : "f32";
  }

  /** What to send in place of `parts`, whose last is the tensor; `residual` as for `encodeWords`. */
  encode(
    peer: string,
    heading: Heading,
    parts: readonly Uint8Array[],
    residual?: Float32Array<ArrayBuffer>,
  ): { heading: Heading; parts: readonly Uint8Array[] } {
    const codec = this.#codecFor(peer, heading.what), tensor = parts.at(-1);
    if (codec === "f32" || tensor === undefined) return { heading, parts };
    const encoded = encodeWords(
      codec,
      tensor,
      this.zstd,
      residual ?? this.#residual(codec, peer, heading, tensor.length >> 2),
    );
    const exact = parts.slice(0, -1), bytes = exact.reduce((sum, part) => sum + part.length, 0);
    if (encoded === undefined || encoded.length + EXACT_BYTES > tensor.length) return { heading, parts };
    const head = new Uint8Array(EXACT_BYTES);
    new DataView(head.buffer).setUint32(0, bytes, true);
    return { heading: { ...heading, codec }, parts: [head, ...exact, encoded] };
  }

  #residual(codec: Codec, peer: string, { what, index, microbatch, sequence }: Heading, words: number) {
    if (codec !== "int8" || !FEEDBACK.has(what)) return undefined;
    const key = `${peer} ${what} ${index} ${microbatch} ${sequence}`;
    let residual = this.#residuals.get(key);
    if (residual?.length !== words) this.#residuals.set(key, residual = new Float32Array(words));
    return residual;
  }

  /**
   * The payload as if it had been sent without a codec, at most `most` bytes. Throws {@linkcode PlanViolationError} for a
   * codec that the plan does not name and `FrameError` for bytes that no codec wrote.
   */
  decode(
    peer: string,
    header: FrameHeader,
    payload: Uint8Array<ArrayBuffer>,
    most: number,
  ): Uint8Array<ArrayBuffer> {
    const codec = header.codec ?? "f32";
    if (codec === "f32") return payload;
    if (codec !== this.#codecFor(peer, header.what)) {
      throw new PlanViolationError(`${peer} sent ${header.what} in ${codec}, which the plan does not say`);
    }
    const exact = payload.length < EXACT_BYTES ? NaN : new DataView(payload.buffer).getUint32(0, true);
    if (!(exact <= payload.length - EXACT_BYTES)) {
      throw new FrameError(`A frame in ${codec} has ${payload.length} bytes, which do not hold what it says`);
    }
    const tensor = decodeWords(codec, payload.subarray(EXACT_BYTES + exact), most - exact, this.zstd);
    if (exact === 0) return tensor;
    const whole = new Uint8Array(exact + tensor.length);
    whole.set(payload.subarray(EXACT_BYTES, EXACT_BYTES + exact));
    whole.set(tensor, exact);
    return whole;
  }
}
