/**
 * How two workers show each other who they are, before anything else between them is read.
 *
 * ```text
 * hello ->  <- hello     version, generation, nonce, key, what the connection can be known by, the coordinator's word
 * proof ->  <- proof     a signature over both hellos, run, generation, both ids and the connection itself
 * ```
 *
 * A hello has one size, nothing in it has a length of its own. The coordinator's word must name this run, the worker that
 * is expected and the hello's key. The signature covers what makes this connection unlike any other: bytes that only its
 * two ends share, where both ends' stacks give them; else both certificates, if at least one of the stacks made the
 * other end prove that it has its certificate's private key. With neither there is no link. What each stack can do is
 * itself signed, so that nobody in the middle can talk two ends down. Someone between the ends has two connections, to
 * which one signature cannot fit; something that was said in another connection has another nonce.
 *
 * @module
 */
import { HandshakeError } from "../errors.ts";
import {
  type Delegate,
  delegates,
  type Delegation,
  type Identity,
  KEY_BYTES,
  SIGNATURE_BYTES,
  signedBy,
} from "../identity/identity.ts";
import { KIND } from "./link_wire.ts";
import { PROTOCOL_VERSION } from "../control/messages.ts";
import type { Chance, ChannelBinding, Clock } from "../runtime.ts";
import { statement } from "../identity/statement.ts";

/** What a worker shows its peers. */
export interface Credentials {
  readonly identity: Identity;
  /** Public key of the coordinator whose word counts. */
  readonly coordinator: Uint8Array<ArrayBuffer>;
  /** The coordinator's latest word for this worker in this run. */
  readonly delegation: () => Delegation;
  readonly chance: Chance;
}

/** Who meets whom. */
export interface Meeting {
  readonly clock: Pick<Clock, "wall">;
  /** This worker's id and the id that the other end must prove. */
  readonly self: string;
  readonly peer: string;
  readonly run: string;
  readonly generation: number;
  readonly credentials: Credentials;
}

/** The road while nobody has shown anything: messages one at a time, the rest waits unread. */
export interface Road {
  send(message: Uint8Array<ArrayBuffer>): void;
  next(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Why an end is refused; the place in the list is the number on the wire. */
const REASONS = [
  "malformed",
  "version",
  "generation",
  "delegation",
  "clock",
  "binding",
  "signature",
] as const;
type Reason = typeof REASONS[number];

/** Why a handshake failed here; the reason is what the other end is told. */
class Refusal extends HandshakeError {
  constructor(readonly reason: Reason, message: string) {
    super(message);
  }
}

/** u8 kind, u16 version, u8 means, u32 generation, nonce, key, f64 from, f64 until, signature of the coordinator. */
const NONCE_BYTES = 32, NONCE_AT = 8, KEY_AT = NONCE_AT + NONCE_BYTES, TIMES_AT = KEY_AT + KEY_BYTES;
const WORD_AT = TIMES_AT + 16;
/** Bytes of a hello and of a proof. */
export const HELLO_BYTES = WORD_AT + SIGNATURE_BYTES;
export const PROOF_BYTES = 1 + SIGNATURE_BYTES;
/** Bits of what a connection can be known by at one end. */
const SHARED = 1, CERTIFICATES = 2, PROVEN = 4;

/**
 * Proves this worker to the other end of a connection and has the other end prove itself. Rejects with `HandshakeError`;
 * {@linkcode refusal} makes the message of it that the other end should be sent.
 */
export async function shakeHands(meeting: Meeting, binding: ChannelBinding, road: Road): Promise<void> {
  const { self, peer, credentials: { identity } } = meeting;
  const mine = encodeHello(meeting, binding);
  road.send(mine);
  const theirs = await road.next();
  const key = await checkHello(theirs, meeting);
  const connection = known(binding, mine[3], theirs[3], self < peer);
  const words = (signer: string) => {
    const [first, second] = self < peer ? [self, peer] : [peer, self];
    const hellos = self < peer ? [mine, theirs] : [theirs, mine];
    const { run, generation } = meeting;
    return statement(
      "volary link",
      PROTOCOL_VERSION,
      run,
      generation,
      first,
      second,
      ...hellos,
      connection,
      signer,
    );
  };
  const proof = new Uint8Array(PROOF_BYTES);
  proof[0] = KIND.proof;
  proof.set(await identity.sign(words(self)), 1);
  road.send(proof);
  const answer = await road.next();
  stopIfRefused(answer, peer);
  if (answer.length !== PROOF_BYTES || answer[0] !== KIND.proof) {
    throw new Refusal("malformed", `${peer} does not prove who it is`);
  }
  if (!await signedBy(key, answer.slice(1), words(peer))) {
    throw new Refusal(
      "signature",
      `${peer} could not prove that this connection ends with it: somebody stands between, or pretends to be ${peer}. ` +
        "No data was exchanged",
    );
  }
}

/** The message that tells the other end, without a word of our own, why it is refused. */
export function refusal(error: unknown): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(4);
  message[0] = KIND.refuse;
  message[1] = REASONS.indexOf(error instanceof Refusal ? error.reason : "malformed");
  new DataView(message.buffer).setUint16(2, PROTOCOL_VERSION, true);
  return message;
}

/** Throws where the other end refuses or gives up. */
function stopIfRefused(message: Uint8Array, peer: string): void {
  if (message[0] === KIND.abort) throw new HandshakeError(`${peer} gave up before it showed who it is`);
  if (message[0] === KIND.refuse) throw new HandshakeError(whyRefused(message, peer));
}

/** What a message of the kind `refuse` says. */
export function whyRefused(message: Uint8Array, peer: string): string {
  if (message.length !== 4) return `${peer} refuses`;
  const reason = REASONS[message[1]];
  if (reason === "version") return otherVersion(version(message, 2));
  const why: Record<Exclude<Reason, "version">, string> = {
    malformed: "it could not read what this worker said",
    generation: "it is in another generation of the run",
    delegation:
      "the coordinator's word for this worker is not good there (another run or another coordinator)",
    clock: "the coordinator's word for this worker is not valid at the time that its clock shows",
    binding: "the two WebRTC libraries cannot prove whose connection it is",
    signature: "it has reason to think that somebody stands between",
  };
  return `${peer} refuses: ${why[reason ?? "malformed"]}`;
}

function encodeHello({ generation, credentials }: Meeting, binding: ChannelBinding): Uint8Array<ArrayBuffer> {
  const { notBefore, notAfter, signature } = credentials.delegation();
  const hello = new Uint8Array(HELLO_BYTES), view = new DataView(hello.buffer);
  hello[0] = KIND.hello;
  view.setUint16(1, PROTOCOL_VERSION, true);
  hello[3] = (binding.shared ? SHARED : 0) | (binding.certificates ? CERTIFICATES : 0) |
    (binding.proven ? PROVEN : 0);
  view.setUint32(4, generation, true);
  hello.set(credentials.chance.random(NONCE_BYTES), NONCE_AT);
  hello.set(credentials.identity.publicKey, KEY_AT);
  view.setFloat64(TIMES_AT, notBefore, true);
  view.setFloat64(TIMES_AT + 8, notAfter, true);
  hello.set(signature, WORD_AT);
  return hello;
}

/** The key of whoever said this hello, if the coordinator says that it is the peer's. */
async function checkHello(
  hello: Uint8Array<ArrayBuffer>,
  { clock, peer, run, generation, credentials }: Meeting,
): Promise<Uint8Array<ArrayBuffer>> {
  stopIfRefused(hello, peer);
  if (hello.length < 3 || hello[0] !== KIND.hello) {
    throw new Refusal("malformed", `${peer} does not begin with a hello`);
  }
  // The version before anything else: a hello of another one may look different.
  if (version(hello, 1) !== PROTOCOL_VERSION) throw new Refusal("version", otherVersion(version(hello, 1)));
  if (hello.length !== HELLO_BYTES) {
    throw new Refusal("malformed", `A hello of ${peer} has ${hello.length} bytes instead of ${HELLO_BYTES}`);
  }
  const view = new DataView(hello.buffer, hello.byteOffset, hello.length), theirs = view.getUint32(4, true);
  if (theirs !== generation) {
    throw new Refusal("generation", `${peer} is in generation ${theirs}, this worker in ${generation}`);
  }
  const publicKey = hello.slice(KEY_AT, TIMES_AT), to: Delegate = { run, worker: peer, publicKey };
  const delegation: Delegation = {
    notBefore: view.getFloat64(TIMES_AT, true),
    notAfter: view.getFloat64(TIMES_AT + 8, true),
    signature: hello.slice(WORD_AT),
  };
  if (!await delegates(credentials.coordinator, delegation, to)) {
    throw new Refusal(
      "delegation",
      `Whoever answers as ${peer} has no word of this mesh's coordinator for it in the run ${run}`,
    );
  }
  const wall = clock.wall(), { notBefore, notAfter } = delegation;
  if (!(wall >= notBefore && wall <= notAfter)) {
    const apart = Math.max(1, Math.round((wall < notBefore ? notBefore - wall : wall - notAfter) / 60_000));
    throw new Refusal(
      "clock",
      `The coordinator's word for ${peer} is good from ${iso(notBefore)} to ${iso(notAfter)}, but it is ` +
        `${iso(wall)} here, ${apart} minutes off: set the clock that is wrong (for instance: ` +
        "timedatectl set-ntp true)",
    );
  }
  return publicKey;
}

/** What both ends know this connection by: the best that both stacks can do. */
function known(
  binding: ChannelBinding,
  mine: number,
  theirs: number,
  first: boolean,
): Uint8Array<ArrayBuffer> {
  const both = mine & theirs;
  if (both & SHARED) return statement("shared", binding.shared!);
  if (both & CERTIFICATES && (mine | theirs) & PROVEN) {
    const { own, peer } = binding.certificates!;
    return statement("certificates", ...(first ? [own, peer] : [peer, own]));
  }
  throw new Refusal(
    "binding",
    "The connection cannot be told from one with somebody between: neither end's WebRTC library checks that a certificate " +
      "is its sender's own, and they have no keying material in common",
  );
}

function version(message: Uint8Array, at: number): number {
  return new DataView(message.buffer, message.byteOffset, message.length).getUint16(at, true);
}

function otherVersion(theirs: number): string {
  const older = theirs < PROTOCOL_VERSION ? "the peer's worker" : "this worker";
  return `The peer speaks protocol ${theirs}, this worker speaks ${PROTOCOL_VERSION}: update Volary on ${older} and ` +
    "join again";
}

function iso(ms: number): string {
  return Number.isFinite(ms) && Math.abs(ms) < 8.64e15
    ? new Date(ms).toISOString()
    : "a time that there is not";
}
