/**
 * Messages of STUN (RFC 8489) as far as asking a server needs them. For Deno only.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHmac, randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import type { HostPort } from "./ice_servers.ts";
import type { Clock } from "../runtime.ts";

/** The magic cookie, the bytes of a header, and the classes of an answer (sections 5 and 6). */
export const COOKIE = 0x2112a442, HEADER = 20, SUCCESS = 0x100, FAILURE = 0x110;
const INTEGRITY = 8;
/** Requests over UDP may be lost: so often and so far apart, ms. */
export const TRIES = 4, AGAIN_MS = 500;
/** The longest answer that is read. */
export const MOST_BYTES = 2_048;

/** Sends a request and answers with the response, undefined where none comes. */
export type Ask = (request: Buffer) => Promise<Buffer | undefined>;

/** A request; with a key its integrity is protected. */
export function message(method: number, attributes: Buffer[], key?: Buffer): Buffer {
  const body = Buffer.concat(attributes), head = Buffer.alloc(HEADER);
  head.writeUInt16BE(method, 0);
  head.writeUInt16BE(body.length + (key ? 24 : 0), 2); // integrity covers a length that counts itself
  head.writeUInt32BE(COOKIE, 4);
  randomBytes(12).copy(head, 8);
  const whole = Buffer.concat([head, body]);
  if (key === undefined) return whole;
  return Buffer.concat([whole, attribute(INTEGRITY, createHmac("sha1", key).update(whole).digest())]);
}

/** One attribute, padded. */
export function attribute(type: number, value: Buffer): Buffer {
  const out = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  out.writeUInt16BE(type, 0);
  out.writeUInt16BE(value.length, 2);
  value.copy(out, 4);
  return out;
}

/** The attributes of a response, the first of each type. */
export function parse(response: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = HEADER; at + 4 <= response.length;) {
    const type = response.readUInt16BE(at), length = response.readUInt16BE(at + 2);
    if (at + 4 + length > response.length) break;
    if (!found.has(type)) found.set(type, response.subarray(at + 4, at + 4 + length));
    at += 4 + Math.ceil(length / 4) * 4;
  }
  return found;
}

/** Whether a response belongs to a request. */
export function answers(request: Buffer, response: Buffer): boolean {
  return response.length >= HEADER && response.length <= MOST_BYTES &&
    response.subarray(4, HEADER).equals(request.subarray(4, HEADER));
}

/** Asks a server over a UDP socket: a new one, or one that its owner closes. */
export function overUdp(
  { host, port }: HostPort,
  clock: Clock,
  socket: Socket = createSocket(host.includes(":") ? "udp6" : "udp4"),
): { ask: Ask; close(): void } {
  socket.on("error", () => {}); // nobody there: no answer comes
  return {
    ask: (request) =>
      new Promise((resolve) => {
        let tries = 0;
        const done = (response?: Buffer) => {
          timer.cancel();
          socket.removeAllListeners("message");
          resolve(response);
        };
        const send = () => {
          if (tries++ === TRIES) return done();
          socket.send(request, port, host);
          timer = clock.timer(AGAIN_MS, send);
        };
        let timer = clock.timer(0, send);
        socket.on("message", (response: Buffer) => answers(request, response) && done(response));
      }),
    close: () => socket.close(),
  };
}
