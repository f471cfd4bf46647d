/**
 * Asks a TURN server for an address and gives it back at once, to tell apart what a connection that does not come about
 * leaves in the dark: nobody there, UDP blocked, credentials refused. For Deno only.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect } from "node:net";
import type { TurnServer } from "./ice_servers.ts";
import type { Clock } from "./runtime.ts";

/** What a server answered. */
export type TurnAnswer =
  | { readonly answer: "granted"; readonly ms: number }
  /** With STUN's number and words, for instance 401 Unauthorized. */
  | { readonly answer: "refused"; readonly code: number; readonly reason: string }
  | { readonly answer: "none" };

/** STUN (RFC 8489) and TURN (RFC 8656) as far as one request needs them. */
const COOKIE = 0x2112a442, HEADER = 20, ALLOCATE = 3, REFRESH = 4, SUCCESS = 0x100, FAILURE = 0x110;
const USERNAME = 6,
  INTEGRITY = 8,
  ERROR_CODE = 9,
  LIFETIME = 13,
  REALM = 20,
  NONCE = 21,
  TRANSPORT = 25,
  UDP = 17;
/** Requests over UDP may be lost: so often and so far apart, ms. */
const TRIES = 4, AGAIN_MS = 500;
/** The longest answer that is read. */
const MOST_BYTES = 2_048;

/** Sends a request and answers with the response, undefined where none comes. */
type Ask = (request: Buffer) => Promise<Buffer | undefined>;

/** Asks over the server's transport. */
export async function probeTurn(server: TurnServer, clock: Clock): Promise<TurnAnswer> {
  const began = clock.now(),
    { ask, close } = server.transport === "udp" ? overUdp(server, clock) : overTcp(server, clock);
  try {
    const transport = attribute(TRANSPORT, Buffer.from([UDP, 0, 0, 0]));
    const first = await ask(message(ALLOCATE, [transport]));
    if (first === undefined) return { answer: "none" };
    const attributes = parse(first), realm = attributes.get(REALM), nonce = attributes.get(NONCE);
    if (realm === undefined || nonce === undefined) return outcome(first, clock.now() - began);
    const signed = (method: number, more: Buffer) =>
      message(method, [
        more,
        attribute(USERNAME, Buffer.from(server.username)),
        attribute(REALM, realm),
        attribute(NONCE, nonce),
      ], createHash("md5").update(`${server.username}:${realm}:${server.password}`).digest());
    const second = await ask(signed(ALLOCATE, transport));
    if (second === undefined) return { answer: "none" };
    const result = outcome(second, clock.now() - began);
    if (result.answer === "granted") await ask(signed(REFRESH, attribute(LIFETIME, Buffer.alloc(4))));
    return result;
  } finally {
    close();
  }
}

function outcome(response: Buffer, ms: number): TurnAnswer {
  const type = response.readUInt16BE(0);
  if ((type & FAILURE) === SUCCESS) return { answer: "granted", ms };
  const error = parse(response).get(ERROR_CODE);
  if (error === undefined || error.length < 4) return { answer: "none" };
  const reason = error.subarray(4).toString().replace(/[^\x20-\x7e]/g, "");
  return { answer: "refused", code: (error[2] & 7) * 100 + error[3], reason };
}

function message(method: number, attributes: Buffer[], key?: Buffer): Buffer {
  const body = Buffer.concat(attributes), head = Buffer.alloc(HEADER);
  head.writeUInt16BE(method, 0);
  head.writeUInt16BE(body.length + (key ? 24 : 0), 2); // integrity covers a length that counts itself
  head.writeUInt32BE(COOKIE, 4);
  randomBytes(12).copy(head, 8);
  const whole = Buffer.concat([head, body]);
  if (key === undefined) return whole;
  return Buffer.concat([whole, attribute(INTEGRITY, createHmac("sha1", key).update(whole).digest())]);
}

function attribute(type: number, value: Buffer): Buffer {
  const out = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  out.writeUInt16BE(type, 0);
  out.writeUInt16BE(value.length, 2);
  value.copy(out, 4);
  return out;
}

/** The attributes of a response, the first of each type. */
function parse(response: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = HEADER; at + 4 <= response.length;) {
    const type = response.readUInt16BE(at), length = response.readUInt16BE(at + 2);
    if (at + 4 + length > response.length) break;
    if (!found.has(type)) found.set(type, response.subarray(at + 4, at + 4 + length));
    at += 4 + Math.ceil(length / 4) * 4;
  }
  return found;
}

function answers(request: Buffer, response: Buffer): boolean {
  return response.length >= HEADER && response.length <= MOST_BYTES &&
    response.subarray(4, HEADER).equals(request.subarray(4, HEADER));
}

function overUdp({ host, port }: TurnServer, clock: Clock): { ask: Ask; close(): void } {
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
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

function overTcp({ host, port }: TurnServer, clock: Clock): { ask: Ask; close(): void } {
  const socket = connect({ host, port });
  let heard = Buffer.alloc(0), over = false, wake = () => {};
  const end = () => {
    over = true;
    wake();
  };
  socket.on("error", end);
  socket.on("close", end);
  socket.on("data", (data: Buffer) => {
    heard = Buffer.concat([heard, data]);
    if (heard.length > MOST_BYTES) socket.destroy();
    wake();
  });
  return {
    async ask(request) {
      const timer = clock.timer(TRIES * AGAIN_MS, end);
      if (!over) socket.write(request);
      try {
        while (!over) {
          const length = heard.length < HEADER ? Infinity : HEADER + heard.readUInt16BE(2);
          if (heard.length >= length) {
            const response = heard.subarray(0, length);
            heard = heard.subarray(length);
            if (answers(request, response)) return response;
            continue;
          }
          await new Promise<void>((resolve) => wake = resolve);
        }
        return undefined;
      } finally {
        timer.cancel();
      }
    },
    close: () => socket.destroy(),
  };
}
