/**
 * Invites: one line that says where the coordinator is and proves that its bearer was asked to come.
 *
 * ```text
 * volary: base64url( u8 version, u8 flags, [u32 expiry in minutes since 1970,] 16 bytes secret, address, u32 CRC )
 * ```
 *
 * @module
 */
import { InviteError } from "./errors.ts";
import { limits } from "./limits.ts";
import type { Chance, Clock } from "./runtime.ts";

export interface Invite {
  /** Where to connect: ws:// or wss://, host and port. */
  readonly address: string;
  /** What the coordinator asks of whoever comes: 22 characters of base64url. */
  readonly secret: string;
  /** Milliseconds since 1970, or undefined for an invite that does not expire. */
  readonly expires: number | undefined;
}

const PREFIX = "volary:";
const VERSION = 1;
const HAS_EXPIRY = 1;
const SECRET_BYTES = 16;
const MINUTE = 60_000;
const AGAIN = 'Ask for a new one, or copy it again as a whole: one line that begins with "volary:".';

/** A new invite with a secret of its own, that expires after `forMs` (rounded up to minutes) where given. */
export function newInvite(runtime: Chance & Pick<Clock, "wall">, address: string, forMs?: number): Invite {
  checkAddress(address);
  const expires = forMs === undefined ? undefined : Math.ceil((runtime.wall() + forMs) / MINUTE) * MINUTE;
  return { address, secret: base64url(runtime.random(SECRET_BYTES)), expires };
}

/** The line that a worker is started with. */
export function formatInvite({ address, secret, expires }: Invite): string {
  const place = new TextEncoder().encode(address), key = fromBase64url(secret);
  if (key?.length !== SECRET_BYTES) {
    throw new InviteError("Cannot write an invite: its secret is not 16 bytes");
  }
  const head = expires === undefined ? 2 : 6;
  const bytes = new Uint8Array(head + SECRET_BYTES + place.length + 4), view = new DataView(bytes.buffer);
  bytes[0] = VERSION;
  if (expires !== undefined) {
    bytes[1] = HAS_EXPIRY;
    view.setUint32(2, expires / MINUTE);
  }
  bytes.set(key, head);
  bytes.set(place, head + SECRET_BYTES);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)));
  return PREFIX + base64url(bytes);
}

/**
 * Reads an invite. Throws `InviteError` that says what is wrong with it, also for one that expired before `wall`
 * (milliseconds since 1970).
 */
export function parseInvite(text: string, wall: number): Invite {
  const line = text.trim();
  if (!line.startsWith(PREFIX)) {
    throw new InviteError(`This is not an invite: it does not begin with "${PREFIX}". ${AGAIN}`);
  }
  if (line.length > limits.textLength) {
    throw new InviteError(`This is not an invite: it is too long. ${AGAIN}`);
  }
  const bytes = fromBase64url(line.slice(PREFIX.length));
  if (bytes === undefined) {
    throw new InviteError(
      `This invite has characters that no invite has (a space, a quote, a line end?). ${AGAIN}`,
    );
  }
  if (bytes.length < 2 + SECRET_BYTES + 4) throw new InviteError(`This invite is cut short. ${AGAIN}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(bytes.length - 4) !== crc32(bytes.subarray(0, -4))) {
    throw new InviteError(
      `This invite has a typo or a part of it is missing: its checksum is wrong. ${AGAIN}`,
    );
  }
  if (bytes[0] !== VERSION) {
    throw new InviteError(
      `This invite has the format ${bytes[0]}, this program reads format ${VERSION}: update Volary.`,
    );
  }
  const hasExpiry = bytes[1] === HAS_EXPIRY, head = hasExpiry ? 6 : 2;
  if (bytes[1] > HAS_EXPIRY || bytes.length < head + SECRET_BYTES + 4) {
    throw new InviteError(`This invite says things that this program does not know: update Volary. ${AGAIN}`);
  }
  const expires = hasExpiry ? view.getUint32(2) * MINUTE : undefined;
  const address = new TextDecoder().decode(bytes.subarray(head + SECRET_BYTES, -4));
  checkAddress(address);
  if (expires !== undefined && wall > expires) {
    throw new InviteError(
      `This invite expired on ${new Date(expires).toISOString()}; it is now ${
        new Date(wall).toISOString()
      } here. ` +
        "Ask for a new one (or set this machine's clock).",
    );
  }
  return { address, secret: base64url(bytes.subarray(head, head + SECRET_BYTES)), expires };
}

/** Compares secrets in a time that tells nothing of where they differ: by their HMACs under a key of the moment. */
export async function sameSecret(chance: Chance, given: string, wanted: string): Promise<boolean> {
  const hash = { name: "HMAC", hash: "SHA-256" }, text = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", chance.random(32), hash, false, ["sign", "verify"]);
  const mark = await crypto.subtle.sign("HMAC", key, text.encode(wanted));
  return await crypto.subtle.verify("HMAC", key, mark, text.encode(given));
}

function checkAddress(address: string): void {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^wss?:$/.test(url.protocol) || url.hostname === "" || address.length > 1_000) {
    throw new InviteError(
      `An invite cannot name the address "${address.slice(0, 200)}": it must be ws:// or wss://`,
    );
  }
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromBase64url(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return undefined;
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/** CRC-32 of IEEE 802.3, bit by bit: invites are short. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
