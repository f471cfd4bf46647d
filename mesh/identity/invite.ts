/**
 * Invites: one line that says where a coordinator is and what its key is, with a secret of which the coordinator keeps the
 * public half only. Whoever has the line can prove it without showing the secret to anybody.
 *
 * ```text
 * volary: base64url( u8 version, u8 flags, [u32 expiry in minutes since 1970,] 32 bytes coordinator's key,
 *                    32 bytes secret, address, u32 CRC )
 * ```
 *
 * @module
 */
import { base64url, fromBase64url } from "./base64url.ts";
import { InviteError } from "../errors.ts";
import { KEY_BYTES } from "./identity.ts";
import { limits } from "../limits.ts";
import type { Chance } from "../runtime.ts";

/** What an invite says. */
export interface Invite {
  /** Where to connect: ws:// or wss://, host and port. */
  readonly address: string;
  /** The coordinator's public key: whoever answers at the address must have its private half. */
  readonly coordinator: Uint8Array<ArrayBuffer>;
  /** The seed of an Ed25519 key. */
  readonly secret: Uint8Array<ArrayBuffer>;
  /** Milliseconds since 1970, whole minutes, or undefined for an invite that does not expire; the coordinator judges. */
  readonly expires: number | undefined;
}

const PREFIX = "volary:";
const VERSION = 2;
const HAS_EXPIRY = 1;
/** Bytes of key and secret. */
const KEYS = 2 * KEY_BYTES;
const MINUTE = 60_000;
const AGAIN = 'Ask for a new one, or copy it again as a whole: one line that begins with "volary:".';

/** A new invite with a secret of its own; `expires` is rounded up to whole minutes. */
export function newInvite(
  chance: Chance,
  { address, coordinator, expires }: Pick<Invite, "address" | "coordinator" | "expires">,
): Invite {
  checkAddress(address);
  const minutes = expires === undefined ? undefined : Math.ceil(expires / MINUTE) * MINUTE;
  return { address, coordinator, secret: chance.random(KEY_BYTES), expires: minutes };
}

/** The line that a worker is started with. */
export function formatInvite({ address, coordinator, secret, expires }: Invite): string {
  const place = new TextEncoder().encode(address);
  const head = expires === undefined ? 2 : 6;
  const bytes = new Uint8Array(head + KEYS + place.length + 4), view = new DataView(bytes.buffer);
  bytes[0] = VERSION;
  if (expires !== undefined) {
    bytes[1] = HAS_EXPIRY;
    view.setUint32(2, expires / MINUTE);
  }
  bytes.set(coordinator, head);
  bytes.set(secret, head + KEY_BYTES);
  bytes.set(place, head + KEYS);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)));
  return PREFIX + base64url(bytes);
}

/** Reads an invite. Throws `InviteError` that says what is wrong with it. */
export function parseInvite(text: string): Invite {
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
  if (bytes.length < 6) throw new InviteError(`This invite is cut short. ${AGAIN}`);
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
  if (bytes[1] > HAS_EXPIRY || bytes.length < head + KEYS + 4) {
    throw new InviteError(`This invite says things that this program does not know: update Volary. ${AGAIN}`);
  }
  const expires = hasExpiry ? view.getUint32(2) * MINUTE : undefined;
  const address = new TextDecoder().decode(bytes.subarray(head + KEYS, -4));
  checkAddress(address);
  return {
    address,
    coordinator: bytes.slice(head, head + KEY_BYTES),
    secret: bytes.slice(head + KEY_BYTES, head + KEYS),
    expires,
  };
}

function checkAddress(address: string): void {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^wss?:$/.test(url.protocol) || url.hostname === "" || address.length > 1_000) {
    throw new InviteError(
      `An invite cannot name the address "${address.slice(0, 200)}": it must be ws:// or wss://`,
    );
  }
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
