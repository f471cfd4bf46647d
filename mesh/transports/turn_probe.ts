/**
 * Asks a TURN server for an address and gives it back at once, to tell apart what a connection that does not come about
 * leaves in the dark: nobody there, UDP blocked, credentials refused. For Deno only.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { connect, isIP } from "node:net";
import { connect as connectTls } from "node:tls";
import type { TurnServer } from "./ice_servers.ts";
import type { Clock } from "../runtime.ts";
import {
  AGAIN_MS,
  answers,
  type Ask,
  attribute,
  FAILURE,
  HEADER,
  message,
  MOST_BYTES,
  overUdp,
  parse,
  SUCCESS,
  TRIES,
} from "./stun_message.ts";

/** What a server answered. */
export type TurnAnswer =
  | { readonly answer: "granted"; readonly ms: number }
  /** With STUN's number and words, for instance 401 Unauthorized. */
  | { readonly answer: "refused"; readonly code: number; readonly reason: string }
  | { readonly answer: "none" };

/** TURN (RFC 8656) as far as one request needs it. */
const ALLOCATE = 3, REFRESH = 4;
const USERNAME = 6, ERROR_CODE = 9, LIFETIME = 13, REALM = 20, NONCE = 21, TRANSPORT = 25, UDP = 17;

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

function overTcp({ host, port, transport }: TurnServer, clock: Clock): { ask: Ask; close(): void } {
  const socket = transport === "tls"
    ? connectTls({ host, port, servername: isIP(host) ? undefined : host })
    : connect({ host, port });
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
