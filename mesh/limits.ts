/**
 * Every bound on what a peer can make us hold, wait for or parse, with its reason.
 *
 * @module
 */
export const limits = {
  /** Names of workers, runs and tensors: the longest tensor name of a known model has 60 characters. */
  nameLength: 128,
  /** Free text (reasons, device names): one paragraph. */
  textLength: 2_000,
  /** Layers of a model: the deepest published models have 126. */
  layers: 1_024,
  /** Experts of a layer: the most published is 512. */
  experts: 1_024,
  /** Tensors that one worker votes on: layers x experts x 3 of a very large model's share. */
  tensors: 200_000,
  /** Sequences in a microbatch. */
  batch: 4_096,
  /** Tokens in a sequence: the longest context that published dense models train at. */
  sequence: 131_072,
  /** Microbatches in a round. */
  microbatches: 1_024,
  /** Operations of one worker in a round: 5 for each microbatch and stage, 1,024 microbatches, some stages. */
  operations: 65_536,
  /** Bytes of one piece of a tensor on the control connection: large enough to fill it, small enough to interleave. */
  chunkBytes: 1 << 20,
  /** Bytes of token ids in one round: 16 Mi tokens. */
  roundBytes: 1 << 26,
  /** Bytes of one control message: a round's ids and labels plus a header. */
  messageBytes: (1 << 27) + (1 << 20),
} as const;
