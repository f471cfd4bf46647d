/**
 * What workers and the coordinator say to each other, as schemas. Everything that arrives is checked against them.
 *
 * @module
 */
import { z } from "zod";
import { SIGNATURE_BYTES } from "../identity/identity.ts";
import { limits } from "../limits.ts";
import { Slice } from "../plan.ts";
import { CODECS } from "../tensors/tensor_codec.ts";

/** Both ends must speak the same version. Raise it with every change to messages, frames or the plan. */
export const PROTOCOL_VERSION = 6;

const id = z.int().min(0).max(0xffff_ffff);
const name = z.string().min(1).max(limits.nameLength);
const text = z.string().max(limits.textLength);
const bytes = z.instanceof(Uint8Array<ArrayBuffer>).refine((b) => b.length <= limits.chunkBytes);
const finite = z.number().refine(Number.isFinite);
/** Seconds. */
const duration = z.number().min(0).refine(Number.isFinite);
/** What came out of arithmetic on a device: may be NaN or infinite, which is news and not a malformed message. */
const measured = z.custom<number>((value) => typeof value === "number");

/** What its user lends of a worker; what is not said is lent wholly. */
export const Lent = z.strictObject({
  /** Of the device's time. */
  share: z.number().min(limits.leastShare).max(1).optional(),
  /** Bytes a second that it sends to other workers. */
  sending: z.number().min(limits.leastSending).refine(Number.isFinite).optional(),
  /** Then it leaves: milliseconds since 1970. */
  until: finite.optional(),
});
export type Lent = z.infer<typeof Lent>;

/** What a worker measured about itself when it joined: of what it lends. */
export const Profile = z.strictObject({
  device: z.enum(["webgpu", "reference"]),
  deviceName: text,
  /** Floating-point operations a second of a matrix product of a typical size. */
  flops: finite,
  /** Bytes a second of device memory, reading and writing. */
  bandwidth: finite,
  /** Seconds that a kernel call takes beside its arithmetic and its bytes; 0 where nothing is said. */
  launch: duration.optional(),
  /** Seconds until a pass's result is in the host's memory, beside the pass; 0 where nothing is said. */
  read: duration.optional(),
  /** Bytes that the device may hold at most. */
  memory: finite,
  /** Largest span of memory a kernel can bind, in bytes. */
  maxBinding: finite,
  lent: Lent.optional(),
  /** What it can write and read tensors in; f32 where nothing is said. */
  codecs: z.array(z.enum(CODECS)).max(CODECS.length).optional(),
});
export type Profile = z.infer<typeof Profile>;

/**
 * Which words of a tensor: the weight itself, one of its AdamW moments, or of local training the momentum of outer steps
 * ("u", with the owner) and what rounding has left out of outer gradients so far ("e", with all others).
 */
export const Part = z.enum(["weight", "m", "v", "u", "e"]);
export type Part = z.infer<typeof Part>;

/** Asks the other end for `length` words of a tensor from word `start`; answered by `chunk` with the same id. */
const Pull = z.strictObject({
  type: z.literal("pull"),
  id,
  tensor: name,
  part: Part,
  start: z.int().min(0),
  length: z.int().min(1).max(limits.chunkBytes / 4),
});
/** Raw little-endian f32 words. */
const Chunk = z.strictObject({ type: z.literal("chunk"), id, bytes });

const signalBody = z.json().refine((body) => JSON.stringify(body).length <= limits.signalLength);
/** A body for the peer `to` (towards the coordinator) or from the peer `from` (towards a worker). */
const Signal = z.strictObject({ type: z.literal("signal"), generation: id, peer: name, body: signalBody });
const Ping = z.strictObject({ type: z.literal("ping"), id });
const Pong = z.strictObject({ type: z.literal("pong"), id });

/** What a worker saw of its link to a peer in a round. */
export const LinkReport = z.strictObject({
  peer: name,
  /** Of the last ping, ms; NaN before the first. */
  roundTrip: measured,
  /** Bytes a second that arrived there while any were under way. */
  goodput: finite,
  /** Messages sent again because their connection died or stood still. */
  resent: id,
  /** Frames that had to wait for the peer to take others first. */
  creditWaits: id,
  /** Bytes that came from the peer in the middle of frames, and the milliseconds that they took on the road. */
  streamed: finite,
  streaming: finite,
  /** Connections side by side. */
  paths: id,
});
export type LinkReport = z.infer<typeof LinkReport>;

/** What a worker did in a round; times in milliseconds, traffic in bytes. */
export const RoundReport = z.strictObject({
  busy: finite,
  elapsed: finite,
  sent: finite,
  received: finite,
  /** Time for which operations waited for a frame. */
  waited: finite,
  /** Absent where it has no links. */
  links: z.array(LinkReport).max(limits.codecs).optional(),
});
export type RoundReport = z.infer<typeof RoundReport>;

/** Loss sums of one microbatch, from the stages that know them (absent terms are zero). */
export const Losses = z.strictObject({
  microbatch: id,
  /** The stage's first layer. */
  layer: id,
  /** Sum over valid labels of the cross-entropy, nats. */
  ce: measured,
  /** Sum over this stage's MoE layers of the balancing loss and of the z-loss. */
  balance: measured,
  z: measured,
  /** Tokens sent to each expert, by layer of the stage. */
  load: z.array(z.array(id).max(limits.experts)).max(limits.layers),
  /** In evaluation, from the stage with the head: `ce` by sequence of the microbatch. */
  sequences: z.array(measured).max(limits.batch).optional(),
});
export type Losses = z.infer<typeof Losses>;

/** A TURN server, and what it knows a worker by for a while. */
export const Turn = z.strictObject({ url: text, username: text, password: text });
export type Turn = z.infer<typeof Turn>;

/** The coordinator's word that a worker's key speaks for it in the run: see identity.ts. */
const SignedDelegation = z.strictObject({
  notBefore: finite,
  notAfter: finite,
  signature: z.instanceof(Uint8Array<ArrayBuffer>).refine((b) => b.length === SIGNATURE_BYTES),
});

/** Worker to coordinator. */
export const FromWorker = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("hello"),
    software: text,
    name,
    profile: Profile,
  }),
  Signal,
  Pull,
  Chunk,
  Ping,
  Pong,
  /** Memory is there and every tensor was pulled. */
  z.strictObject({ type: z.literal("loaded"), generation: id, bytes: finite }),
  /** Every link of the plan is open. */
  z.strictObject({ type: z.literal("linked"), generation: id }),
  /** A training round's gradients are complete. `sums` and `finite` are by tensor in the order of the model's parameter table. */
  z.strictObject({
    type: z.literal("vote"),
    generation: id,
    round: id,
    tensors: z.array(z.strictObject({ name, sum: measured, finite: z.boolean() })).max(limits.tensors),
    losses: z.array(Losses).max(limits.microbatches * limits.layers),
    report: RoundReport,
  }),
  z.strictObject({
    type: z.literal("evaluated"),
    generation: id,
    round: id,
    losses: z.array(Losses).max(limits.microbatches * limits.layers),
    report: RoundReport,
  }),
  /** This worker cannot go on in this generation. */
  z.strictObject({ type: z.literal("failed"), generation: id, reason: text }),
  z.strictObject({ type: z.literal("leaving"), reason: text }),
]);
export type FromWorker = z.infer<typeof FromWorker>;

/** Assignments of each expert in a whole step, by layer of the model. */
const Load = z.array(z.array(id).max(limits.experts)).max(limits.layers);

/** Coordinator to worker. */
export const FromCoordinator = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("welcome"), id: name, run: text, turn: z.optional(Turn) }),
  /** Another name and password for the TURN server, before those of the welcome end. */
  z.strictObject({ type: z.literal("turn"), turn: Turn }),
  z.strictObject({ type: z.literal("refused"), reason: text }),
  /** The coordinator's owner has yet to let this worker in; `reason` says how. */
  z.strictObject({ type: z.literal("waiting"), reason: text }),
  Signal,
  Pull,
  Chunk,
  Ping,
  Pong,
  /**
   * Load this part of a plan (pulling weights, moments where there are any, and what outer steps left where a phase of
   * local training goes on), then open its links.
   */
  z.strictObject({
    type: z.literal("assign"),
    slice: Slice,
    moments: z.boolean(),
    outer: z.boolean(),
    delegation: SignedDelegation,
  }),
  /** The coordinator's word for this worker, renewed. */
  z.strictObject({ type: z.literal("delegation"), generation: id, delegation: SignedDelegation }),
  /** Everyone is linked: rounds of this generation may begin. `load` as in a decision, of the step before. */
  z.strictObject({ type: z.literal("start"), generation: id, load: z.optional(Load) }),
  /**
   * The data of a round, sent one round ahead to every worker of the plan. Token ids for stages that embed, labels for
   * stages with a head: u32, little-endian, [microbatches, batch, sequence]; 0xffffffff is a label that does not count.
   */
  z.strictObject({
    type: z.literal("round"),
    generation: id,
    round: id,
    mode: z.enum(["train", "evaluate"]),
    /** Labels that count in the whole round, over all replicas. */
    validLabels: id,
    ids: z.optional(z.instanceof(Uint8Array<ArrayBuffer>).refine((b) => b.length <= limits.roundBytes)),
    labels: z.optional(z.instanceof(Uint8Array<ArrayBuffer>).refine((b) => b.length <= limits.roundBytes)),
  }),
  /** The answer to everyone's vote. */
  z.strictObject({
    type: z.literal("decision"),
    generation: id,
    round: id,
    /** False: leave weights and moments, clear the gradients. */
    commit: z.boolean(),
    /** Factor on every gradient, at most 1. */
    clip: finite,
    learningRate: finite,
    /** Committed steps including this one: the exponent of AdamW's bias corrections. */
    step: id,
    /** Where experts are balanced over the whole batch: what the next steps' balancing loss takes as its f. */
    load: z.optional(Load),
    beta1: finite,
    beta2: finite,
    epsilon: finite,
    weightDecay: finite,
    /** An outer step follows, the one of this number: what the progress of each pipeline counts. */
    outer: z.optional(z.strictObject({ index: id, weights: z.array(finite).max(limits.replicas) })),
  }),
  /** The run is over (or was stopped); stay connected for the next. */
  z.strictObject({ type: z.literal("stop"), generation: id, reason: text }),
]);
export type FromCoordinator = z.infer<typeof FromCoordinator>;
