/**
 * Who somebody is: an Ed25519 key (RFC 8032, by WebCrypto), and what a coordinator says in signed words about a worker's.
 *
 * @module
 */
import { base64url, fromBase64url } from "./base64url.ts";
import { outside } from "../outside_work.ts";
import { statement } from "./statement.ts";

/** Bytes of an Ed25519 public key, of its seed, and of a signature. */
export const KEY_BYTES = 32;
export const SIGNATURE_BYTES = 64;

/** A key that can sign. The private half never leaves it but through {@linkcode identityText}. */
export interface Identity {
  readonly publicKey: Uint8Array<ArrayBuffer>;
  sign(words: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
}

/** What precedes the 32 bytes of the seed in PKCS #8 (RFC 8410). */
const PKCS8_HEAD = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** A fresh identity whose private key stays in memory: for browsers and tests. */
export function newIdentity(): Promise<Identity> {
  return outside(generate());
}

async function generate(): Promise<Identity> {
  const pair = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]) as CryptoKeyPair;
  return identity(pair.privateKey, new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
}

/** The identity of a 32-byte seed: the same seed, the same identity. */
export function identityOfSeed(seed: Uint8Array<ArrayBuffer>): Promise<Identity> {
  return outside(read(seed));
}

async function read(seed: Uint8Array<ArrayBuffer>): Promise<Identity> {
  const pkcs8 = new Uint8Array([...PKCS8_HEAD, ...seed]);
  // Only an exportable key tells its public half, so it is read twice.
  const known = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", known);
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  return identity(key, fromBase64url(x!)!);
}

function identity(key: CryptoKey, publicKey: Uint8Array<ArrayBuffer>): Identity {
  return {
    publicKey,
    sign: (words) =>
      outside(crypto.subtle.sign("Ed25519", key, words).then((bytes) => new Uint8Array(bytes))),
  };
}

/** Whether `signature` over `words` is by the owner of a public key. False for bytes that are no key. */
export function signedBy(
  publicKey: Uint8Array<ArrayBuffer>,
  signature: Uint8Array<ArrayBuffer>,
  words: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  return outside(verify(publicKey, signature, words));
}

async function verify(
  publicKey: Uint8Array<ArrayBuffer>,
  signature: Uint8Array<ArrayBuffer>,
  words: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  try {
    const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, signature, words);
  } catch {
    return false;
  }
}

/** The first 80 bits of a public key, for people to compare: `3f2a-91bc-04de-77a1-c0ff`. */
export function fingerprint(publicKey: Uint8Array): string {
  const hex = Array.from(publicKey.subarray(0, 10), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.match(/.{4}/g)!.join("-");
}

/** Whether two public keys (or other public bytes) are the same. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** A line of a key file. */
const FILE_HEAD = "volary-key-1 ";

/** A seed as the text of a key file. */
export function identityText(seed: Uint8Array): string {
  return `${FILE_HEAD}${base64url(seed)}\n`;
}

/** The seed in a key file's text, or undefined for what is none. */
export function seedOfText(text: string): Uint8Array<ArrayBuffer> | undefined {
  const line = text.trim();
  if (!line.startsWith(FILE_HEAD)) return undefined;
  const seed = fromBase64url(line.slice(FILE_HEAD.length));
  return seed?.length === KEY_BYTES ? seed : undefined;
}

/**
 * A coordinator's word that a key speaks for a worker in a run for a while. Only what the reader cannot know travels; run,
 * worker and key are those that it expects, so that a delegation for another fits nowhere.
 */
export interface Delegation {
  /** Milliseconds since 1970, both included. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly signature: Uint8Array<ArrayBuffer>;
}

/** For whom a delegation speaks. */
export interface Delegate {
  readonly run: string;
  readonly worker: string;
  readonly publicKey: Uint8Array<ArrayBuffer>;
}

function delegationWords(to: Delegate, notBefore: number, notAfter: number): Uint8Array<ArrayBuffer> {
  return statement("volary delegation", to.run, to.worker, to.publicKey, notBefore, notAfter);
}

/** Signs a delegation for a time: milliseconds since 1970, both included. */
export async function delegate(
  coordinator: Identity,
  to: Delegate,
  notBefore: number,
  notAfter: number,
): Promise<Delegation> {
  return { notBefore, notAfter, signature: await coordinator.sign(delegationWords(to, notBefore, notAfter)) };
}

/** Whether a delegation is the coordinator's word for `to`; its time is another question. */
export function delegates(
  coordinator: Uint8Array<ArrayBuffer>,
  { notBefore, notAfter, signature }: Delegation,
  to: Delegate,
): Promise<boolean> {
  return signedBy(coordinator, signature, delegationWords(to, notBefore, notAfter));
}
