/**
 * Every bound on what a peer can make us hold, wait for or parse, with its reason.
 *
 * @module
 */
/** The one setting of all waiting for a peer: silence after which it is dead, in ms. */
const deadMs = 5_000;

/** The bounds by name. */
export const limits = {
  /** Names of workers, runs and tensors: the longest tensor name of a known model has 60 characters. */
  nameLength: 128,
  /** Free text (reasons, device names): one paragraph. */
  textLength: 2_000,
  /** Workers of a mesh: what the control connections of one coordinator can bear, and the planner's largest case. */
  members: 4_096,
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
  /** Pipelines of a plan: all hold the whole model, and each of them has links to all others. */
  replicas: 64,
  /** Links of a plan with a codec of their own: each of a thousand workers has eight. */
  codecs: 8_192,
  /** Operations of one worker in a round: 5 for each microbatch and stage, 1,024 microbatches, some stages. */
  operations: 65_536,
  /** Bytes of one piece of a tensor on the control connection: large enough to fill it, small enough to interleave. */
  chunkBytes: 1 << 20,
  /** Bytes of token ids in one round: 16 Mi tokens. */
  roundBytes: 1 << 26,
  /** Bytes of one control message: a round's ids and labels plus a header. */
  messageBytes: (1 << 27) + (1 << 20),
  /** Bytes of a message from a worker that was let in but is no member yet: its profile. */
  strangerBytes: 1 << 16,
  /** Bytes of a message of a handshake: a paragraph why somebody is refused; everything else in it has a fixed size. */
  handshakeBytes: 4 << 10,
  /** Connections to a coordinator that have not shown who they are; one more, and any one of them goes. */
  halfOpen: 1_024,
  /** Those of them that come from one address: another one's place is never taken for more. */
  halfOpenOfAddress: 128,
  /** Connections to a coordinator from one address: a large laboratory behind one. */
  socketsOfAddress: 512,
  /** Requests to a coordinator under way from one address: a browser opens six. */
  requestsOfAddress: 32,
  /** Between two machines' clocks, in ms: what machines that set their clocks by themselves stay far below. */
  clockSkewMs: 5 * 60_000,
  /** For how long a worker may show peers the coordinator's word, in ms. It is renewed while a run goes. */
  delegationMs: 60 * 60_000,
  /**
   * For how long a TURN server takes what the coordinator gave a worker for it, in ms. Renewed after half of that; what a
   * worker has opened by then goes on.
   */
  turnMs: 60 * 60_000,
  /** Workers that one invite may admit. */
  inviteUses: 10_000,
  /** For how long an invite may be good, in ms: a year. */
  inviteMs: 366 * 24 * 60 * 60_000,
  /** Invites that are good at one time. */
  invites: 1_000,
  /** Workers that a coordinator remembers: four times the largest mesh. */
  knownWorkers: 16_384,
  /** Values (numbers, strings, lists...) in one message: twenty for each tensor of the longest vote. */
  messageValues: 1 << 22,
  /** Lists within lists in one message: a model's config inside an assignment needs 8. */
  messageDepth: 32,
  /** Bytes of one WebSocket message: servers refuse large ones, and progress shows only between them. */
  webSocketBytes: 1 << 20,

  /** Smallest share of a device that may be lent: a piece of work of half a second is followed by a rest of ten. */
  leastShare: 1 / 20,
  /** Bytes a second that a worker sends at least: a piece then leaves eight times a second, beside signs of life. */
  leastSending: 1e6 / 8,

  /** Silence after which a peer is dead, in ms. */
  deadMs,
  /** Silence after which a peer gets no new work, in ms. */
  suspectedMs: deadMs / 5,
  /** Between two signs of life on a connection, in ms: four before a peer is suspected. */
  heartbeatMs: deadMs / 20,
  /** Opening a connection or a link, in ms: handshakes that need longer are stuck, a new connection is quicker. */
  connectMs: deadMs,
  /** A channel of a link over which nothing arrives any more is replaced, in ms: before the peer counts as dead. */
  stalledMs: deadMs * 2 / 5,
  /** Until the other end hears how much has arrived, in ms; sooner where it is much. */
  arrivedMs: deadMs / 100,
  /** Pulls of tensor pieces that one end keeps in flight. */
  pulls: 16,
  /** Without any piece of a tensor while pulls wait, in ms: a disk that starts up, a device that is busy. */
  pullMs: 30_000,
  /** Bytes of one datagram: SCTP over DTLS keeps under 1,300, and what is longer is nobody's we know. */
  datagramBytes: 2_048,
  /** Characters of what two workers tell each other over the coordinator: 16 candidates, with room to spare, as JSON. */
  signalLength: 8 << 10,
  /** Candidate addresses of one peer. */
  candidates: 16,

  /**
   * Bytes of one message of a link: what a data channel carries at full speed with little delay for others, and a little
   * for headers, so that frames of 64 KiB or 1 MiB do not end in a message of a few bytes.
   */
  pieceBytes: (16 << 10) + 64,
  /** Bytes of the largest message that any data channel of ours takes; where they cost less than small ones, a piece's. */
  channelBytes: (64 << 10) + 64,
  /** Bytes that a link hands to its channel before it waits, and where it goes on: full speed, few ms of delay. */
  highWaterBytes: 256 << 10,
  lowWaterBytes: 64 << 10,
  /** Bytes of packets that leave at once behind a pause: two pieces, some 28 packets, which any road's queue holds. */
  burstBytes: 32 << 10,
  /** That packets wait for others to share their acknowledgement, in ms: a piece's, which leave in a row, are there by then. */
  gatheredMs: 4,
  /** Bytes of one frame's payload: 4,096 x 128 tokens of a microbatch would not fit a data channel's time anyway. */
  frameBytes: 1 << 30,
  /** Full frames of a lane that the receiver grants ahead: one in use, one arriving, two in order behind them. */
  grantedFrames: 4,
  /**
   * Bytes of packets between two complete messages of a peer: twelve messages of 64 KiB. Acknowledgements of our own
   * traffic count too, but in the time of a heartbeat they come to less.
   */
  undeliveredBytes: 768 << 10,
  /** Channels of one link at a time: werift gains nothing from more at any round trip. */
  paths: 8,
  /** Bytes that a link keeps until they have arrived, to send them again: half a second of a fast path. */
  unarrivedBytes: 8 << 20,
  /** Bytes after which the other end hears that they have arrived: a quarter of those, as each word costs both ends. */
  toldBytes: 2 << 20,
  /** Messages that a channel keeps before its owner listens: a hello and what follows within one turn. */
  earlyMessages: 256,
} as const;
