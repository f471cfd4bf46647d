/**
 * Where the tensors that one device holds lie: tensors that are used together form a *block* that kernels bind as one
 * matrix, and blocks with the same weight decay form *flats*, allocations over which the optimizer runs in one go.
 * Plain data; {@linkcode Parameters} gives it memory.
 *
 * Legend: D hidden, F expert or MLP width, S width of the shared expert, H query heads, K key/value heads, hd head size, E experts,
 * V vocabulary.
 *
 * @module
 */
import type { ModelConfig } from "./config.ts";
import { ModelError } from "./errors.ts";
import { elements, parameterTable, type TensorSpec } from "./tensors.ts";

/** What one device holds of a model. */
export interface Holding {
  /** Layers whose norms, attention and MLP or router (with the shared expert) are held. */
  readonly layers: readonly number[];
  readonly embedding: boolean;
  /** The final norm and the output matrix. */
  readonly head: boolean;
  /** Ids of held experts by layer, ascending; also of layers that are not in `layers`. */
  readonly experts: ReadonlyMap<number, readonly number[]>;
  /** Layers (-1 the embedding, the number of layers the end) of whose tensors only copies are held: a replica owns them. */
  readonly copies?: ReadonlySet<number>;
}

/** The holding of a device that holds everything. */
export function wholeModel(config: ModelConfig): Holding {
  const layers = Array.from({ length: config.layers }, (_, i) => i);
  const all = Array.from({ length: config.experts }, (_, i) => i);
  return {
    layers,
    embedding: true,
    head: true,
    experts: new Map(config.experts > 0 ? layers.map((layer) => [layer, all]) : []),
  };
}

/** A tensor's place in its block, in words. */
export interface Placed {
  readonly spec: TensorSpec;
  readonly start: number;
  readonly length: number;
}

/** Kinds of blocks, with the shape of each. */
export type BlockKind =
  | "embedding" // [V, D]
  | "input-norm" // [D]
  | "qkv" // [(H + 2K) hd, D]: q rows, k rows, v rows
  | "qkv-bias" // [(H + 2K) hd]
  | "o" // [D, H hd]
  | "post-norm" // [D]
  | "gate-up" // [2F, D]: gate rows, up rows
  | "down" // [D, F]
  | "router" // [E, D]
  | "shared-gate-up" // [2S, D]: gate rows, up rows
  | "shared-down" // [D, S]
  | "experts-gate-up" // [held experts, 2F, D]
  | "experts-down" // [held experts, D, F]
  | "final-norm" // [D]
  | "head"; // [V, D]

/** Tensors that lie side by side and are bound as one. */
export interface Block {
  readonly kind: BlockKind;
  readonly layer: number;
  readonly tensors: readonly Placed[];
  readonly words: number;
  readonly decay: boolean;
  /** Another device owns it: a tied embedding that is here only for the head, or tensors of a replica. */
  readonly copy: boolean;
}

/** Which block each role of a tensor goes to, and its turn there. */
const PLACES: Readonly<Record<TensorSpec["role"], readonly [BlockKind, number]>> = {
  "embedding": ["embedding", 0],
  "input-norm": ["input-norm", 0],
  "q-weight": ["qkv", 0],
  "k-weight": ["qkv", 1],
  "v-weight": ["qkv", 2],
  "q-bias": ["qkv-bias", 0],
  "k-bias": ["qkv-bias", 1],
  "v-bias": ["qkv-bias", 2],
  "o-weight": ["o", 0],
  "post-norm": ["post-norm", 0],
  "gate": ["gate-up", 0],
  "up": ["gate-up", 1],
  "down": ["down", 0],
  "router": ["router", 0],
  "shared-gate": ["shared-gate-up", 0],
  "shared-up": ["shared-gate-up", 1],
  "shared-down": ["shared-down", 0],
  "expert-gate": ["experts-gate-up", 0],
  "expert-up": ["experts-gate-up", 1],
  "expert-down": ["experts-down", 0],
  "final-norm": ["final-norm", 0],
  "head": ["head", 0],
};

/** Name of a block, unique in a model. */
export function blockKey(kind: BlockKind, layer: number): string {
  return `${kind} ${layer}`;
}

function holds(spec: TensorSpec, holding: Holding, config: ModelConfig): boolean {
  if (spec.expert !== undefined) return holding.experts.get(spec.layer)?.includes(spec.expert) ?? false;
  if (spec.role === "embedding") return holding.embedding || (holding.head && config.tiedEmbeddings);
  if (spec.role === "final-norm" || spec.role === "head") return holding.head;
  return holding.layers.includes(spec.layer);
}

/** The blocks of a holding, in order of the parameter table. */
export function blocksOf(config: ModelConfig, holding: Holding): Block[] {
  const members = new Map<string, TensorSpec[]>();
  for (const spec of parameterTable(config)) {
    if (!holds(spec, holding, config)) continue;
    const key = blockKey(PLACES[spec.role][0], spec.layer);
    members.set(key, [...members.get(key) ?? [], spec]);
  }
  return [...members.values()].map((specs) => {
    const [first] = specs;
    const turn = (spec: TensorSpec) => (spec.expert ?? 0) * 2 + PLACES[spec.role][1];
    let words = 0;
    // Experts are stacked by id, each with its gate rows before its up rows.
    const ordered = first.expert === undefined
      ? specs.toSorted((a, b) => PLACES[a.role][1] - PLACES[b.role][1])
      : specs.toSorted((a, b) => turn(a) - turn(b));
    const tensors = ordered.map((spec) => {
      const length = elements(spec.shape);
      const placed = { spec, start: words, length };
      words += length;
      return placed;
    });
    return {
      kind: PLACES[first.role][0],
      layer: first.layer,
      tensors,
      words,
      decay: first.decay,
      copy: (first.role === "embedding" && !holding.embedding) || (holding.copies?.has(first.layer) ?? false),
    };
  });
}

/** Blocks that share allocations, with the word at which each begins. */
export interface Flat {
  readonly blocks: readonly { readonly block: Block; readonly start: number }[];
  readonly words: number;
  readonly decay: boolean;
  readonly copy: boolean;
}

/** A tensor, or tensors that must be bound together, beyond what the device can bind. */
export class TensorTooLargeError extends ModelError {
  override readonly name = "TensorTooLargeError";
}

/**
 * Packs blocks into flats of at most `limit` words, each block at a multiple of `alignment`.
 *
 * @throws {TensorTooLargeError} Where a single block is larger than the limit.
 */
export function flatsOf(blocks: readonly Block[], limit: number, alignment: number): Flat[] {
  const flats: Flat[] = [];
  for (const [decay, copy] of [[true, false], [false, false], [true, true], [false, true]]) {
    let open: { block: Block; start: number }[] = [];
    let words = 0;
    const close = () => {
      if (open.length > 0) flats.push({ blocks: open, words, decay, copy });
      open = [];
      words = 0;
    };
    for (const block of blocks) {
      if (block.decay !== decay || block.copy !== copy) continue;
      const size = Math.ceil(block.words / alignment) * alignment;
      if (block.words > limit) {
        throw new TensorTooLargeError(
          `Cannot hold ${describe(block)}: it takes ${block.words * 4} bytes in one piece and this ` +
            `device binds at most ${limit * 4}. Use a device with a larger limit, or a model with a ` +
            "smaller hidden size, vocabulary or fewer experts on this device.",
        );
      }
      if (words > 0 && words + size > limit) close();
      open.push({ block, start: words });
      words += size;
    }
    close();
  }
  return flats;
}

function describe(block: Block): string {
  const [first, ...others] = block.tensors;
  return others.length === 0 ? first.spec.name : `${first.spec.name} and ${others.length} more beside it`;
}
