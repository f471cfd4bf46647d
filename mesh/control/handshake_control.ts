/**
 * How a worker and a coordinator show each other who they are on a control connection, before anything else is read.
 *
 * ```text
 * knock  ->    version, nonce, worker's key
 *   <- answer  version, nonce, the coordinator's time, its signature over both
 * proof  ->    the invite's key, a signature by it and one by the worker's key over all of that
 *   <- verdict admitted, or why not
 * ```
 *
 * Everything but the verdict's text has one size. The worker knows the coordinator's key from its invite and speaks to no
 * other; it reads nothing from anybody else. The invite's secret stays where it is: the coordinator has the public half. What
 * somebody overhears opens nothing, as nonces differ. A WebSocket shows its program no binding (see `ChannelBinding`): what is
 * said after the handshake is as safe as the road, so over networks of others the address should be wss://.
 *
 * @module
 */
import { ClockError, HandshakeError, LinkError } from "../errors.ts";
import { type Identity, identityOfSeed, KEY_BYTES, SIGNATURE_BYTES, signedBy } from "../identity/identity.ts";
import type { Invite } from "../identity/invite.ts";
import { limits } from "../limits.ts";
import { PROTOCOL_VERSION } from "./messages.ts";
import { nextMessage } from "./next_message.ts";
import type { Chance, Channel, Clock } from "../runtime.ts";
import { statement } from "../identity/statement.ts";

/** The first byte. Knock and other, and where they say their version, stay the same in all versions. */
const KNOCK = 0, ANSWER = 1, PROOF = 2, ADMITTED = 3, REFUSED = 4, OTHER = 5;
const NONCE_BYTES = 32;
/** u8, u16 version, nonce, key. */
const KNOCK_BYTES = 3 + NONCE_BYTES + KEY_BYTES;
/** u8, u16 version, nonce, f64 time; then the signature. */
const ANSWERED = 3 + NONCE_BYTES + 8, ANSWER_BYTES = ANSWERED + SIGNATURE_BYTES;
/** u8, the invite's key; then its signature, then the worker's. */
const PROVED = 1 + KEY_BYTES, PROOF_BYTES = PROVED + 2 * SIGNATURE_BYTES;

/** What either end needs. */
export interface Introduction {
  readonly clock: Clock;
  readonly chance: Chance;
  readonly identity: Identity;
}

/** A worker that proved to have its key, and the invite it brings. */
export interface Applicant {
  readonly publicKey: Uint8Array<ArrayBuffer>;
  /** Public half of the secret of an invite that it has. */
  readonly invite: Uint8Array<ArrayBuffer>;
}

const workerWords = (knock: Uint8Array, answer: Uint8Array, invite: Uint8Array) =>
  statement("volary join", knock, answer, invite);
const coordinatorWords = (knock: Uint8Array, answer: Uint8Array) =>
  statement("volary coordinator", knock, answer);

/**
 * Makes sure that the invite's coordinator is at the other end and that its clock agrees with this machine's. Answers with
 * what a proof is made of. Rejects with `HandshakeError`, `ClockError`, or `LinkError` where nobody answers in time.
 */
export async function meetCoordinator(
  channel: Channel,
  { coordinator }: Pick<Invite, "coordinator">,
  { clock, chance, identity }: Introduction,
): Promise<{ readonly knock: Uint8Array<ArrayBuffer>; readonly answer: Uint8Array<ArrayBuffer> }> {
  if (channel.acceptBytes !== undefined) channel.acceptBytes = limits.handshakeBytes;
  const knock = new Uint8Array(KNOCK_BYTES);
  knock[0] = KNOCK;
  new DataView(knock.buffer).setUint16(1, PROTOCOL_VERSION, true);
  knock.set(chance.random(NONCE_BYTES), 3);
  knock.set(identity.publicKey, 3 + NONCE_BYTES);
  channel.send(knock.slice());
  const message = await inTime(channel, clock);
  if (message.length === 3 && message[0] === OTHER) {
    throw new HandshakeError(otherCoordinator(versionOf(message)));
  }
  const answer = message.slice(0, ANSWERED);
  if (
    message.length !== ANSWER_BYTES || message[0] !== ANSWER || versionOf(message) !== PROTOCOL_VERSION ||
    !await signedBy(coordinator, message.slice(ANSWERED), coordinatorWords(knock, answer))
  ) {
    throw new HandshakeError(
      "Somebody answers at the invite's address, but not the coordinator that made the invite: it was set up anew, or another " +
        "one runs there, or somebody stands between. Ask for a new invite",
    );
  }
  checkClock(new DataView(answer.buffer).getFloat64(3 + NONCE_BYTES, true), clock.wall());
  return { knock, answer };
}

/**
 * Proves to the invite's coordinator who this worker is and that it was invited. Resolves with undefined once it is admitted,
 * or with the coordinator's reason not to. Rejects as {@linkcode meetCoordinator} does.
 */
export async function applyToCoordinator(
  channel: Channel,
  invite: Invite,
  introduction: Introduction,
): Promise<string | undefined> {
  const { knock, answer } = await meetCoordinator(channel, invite, introduction);
  const secret = await identityOfSeed(invite.secret), words = workerWords(knock, answer, secret.publicKey);
  const proof = new Uint8Array(PROOF_BYTES);
  proof[0] = PROOF;
  proof.set(secret.publicKey, 1);
  proof.set(await secret.sign(words), PROVED);
  proof.set(await introduction.identity.sign(words), PROVED + SIGNATURE_BYTES);
  channel.send(proof);
  const verdict = await inTime(channel, introduction.clock);
  if (verdict.length > limits.handshakeBytes) {
    throw new HandshakeError("The coordinator's verdict is too long");
  }
  if (verdict[0] === REFUSED) return new TextDecoder().decode(verdict.subarray(1));
  if (verdict.length !== 1 || verdict[0] !== ADMITTED) {
    throw new HandshakeError("The coordinator gives no verdict");
  }
  if (channel.acceptBytes !== undefined) channel.acceptBytes = limits.messageBytes;
  return undefined;
}

/**
 * The coordinator's side up to the proof. Rejects with `HandshakeError` for whoever proves nothing; its owner closes the
 * channel then, and after the time that it grants.
 */
export async function interview(
  channel: Channel,
  { clock, chance, identity }: Introduction,
): Promise<Applicant> {
  if (channel.acceptBytes !== undefined) channel.acceptBytes = KNOCK_BYTES;
  const knock = await nextMessage(channel);
  if (knock.length < 3 || knock[0] !== KNOCK) throw new HandshakeError("this is no worker of this mesh");
  if (versionOf(knock) !== PROTOCOL_VERSION) {
    const other = Uint8Array.of(OTHER, 0, 0);
    new DataView(other.buffer).setUint16(1, PROTOCOL_VERSION, true);
    channel.send(other);
    throw new HandshakeError(otherWorker(versionOf(knock)));
  }
  if (knock.length !== KNOCK_BYTES) throw new HandshakeError("this is no worker of this mesh");
  const answer = new Uint8Array(ANSWERED), view = new DataView(answer.buffer);
  answer[0] = ANSWER;
  view.setUint16(1, PROTOCOL_VERSION, true);
  answer.set(chance.random(NONCE_BYTES), 3);
  view.setFloat64(3 + NONCE_BYTES, clock.wall(), true);
  const signature = await identity.sign(coordinatorWords(knock, answer));
  if (channel.acceptBytes !== undefined) channel.acceptBytes = PROOF_BYTES;
  channel.send(new Uint8Array([...answer, ...signature]));
  const proof = await nextMessage(channel);
  if (proof.length !== PROOF_BYTES || proof[0] !== PROOF) throw new HandshakeError("no proof came");
  const publicKey = knock.slice(3 + NONCE_BYTES), invite = proof.slice(1, PROVED);
  const words = workerWords(knock, answer, invite);
  if (
    !await signedBy(publicKey, proof.slice(PROVED + SIGNATURE_BYTES), words) ||
    !await signedBy(invite, proof.slice(PROVED, PROVED + SIGNATURE_BYTES), words)
  ) throw new HandshakeError("the proof is not good");
  return { publicKey, invite };
}

/** Tells an applicant that it is admitted, or why not. */
export function tellVerdict(channel: Channel, refused?: string): void {
  const text = new TextEncoder().encode(refused?.slice(0, limits.textLength / 2) ?? "");
  channel.send(new Uint8Array([refused === undefined ? ADMITTED : REFUSED, ...text]));
}

async function inTime(channel: Channel, clock: Clock): Promise<Uint8Array<ArrayBuffer>> {
  const late = Promise.withResolvers<never>();
  const timer = clock.timer(limits.connectMs, () => {
    late.reject(new LinkError(`the coordinator did not answer within ${limits.connectMs / 1_000} s`));
  });
  const gone = channel.closed.then((reason): never => {
    throw new LinkError(`the coordinator closed the connection: ${reason}`);
  });
  gone.catch(() => {}); // later closing is for the channel's owner
  try {
    return await Promise.race([nextMessage(channel), late.promise, gone]);
  } finally {
    timer.cancel();
  }
}

function checkClock(theirs: number, ours: number): void {
  const apart = Math.abs(ours - theirs);
  if (apart <= limits.clockSkewMs) return;
  const iso = (ms: number) =>
    Number.isFinite(ms) && Math.abs(ms) < 8.64e15 ? new Date(ms).toISOString() : "no time";
  throw new ClockError(
    `This machine's clock shows ${iso(ours)}, the coordinator's ${iso(theirs)}: they are ` +
      `${Math.round(apart / 60_000)} minutes apart, the most is ${limits.clockSkewMs / 60_000}. Set the ` +
      "one that is wrong (on Linux: timedatectl set-ntp true) and join again.",
  );
}

function versionOf(message: Uint8Array): number {
  return new DataView(message.buffer, message.byteOffset, message.length).getUint16(1, true);
}

function otherCoordinator(theirs: number): string {
  const older = theirs < PROTOCOL_VERSION
    ? "The coordinator's program is older: have it updated and started again"
    : "This program is older: update Volary (git pull in its clone, or its newer release)";
  return `The coordinator speaks protocol ${theirs}, this worker ${PROTOCOL_VERSION}. ${older}`;
}

function otherWorker(theirs: number): string {
  const older = theirs < PROTOCOL_VERSION
    ? "The worker's program is older: update it (git pull in its clone, or its newer release)."
    : "The coordinator's program is older: update it and start it again.";
  return `The worker speaks protocol ${theirs}, this coordinator ${PROTOCOL_VERSION}. ${older}`;
}
