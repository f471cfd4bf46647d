/**
 * Asks STUN servers how this machine's address looks from outside, over one socket: which kind of NAT stands in between, if
 * any. For Deno only.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createSocket } from "node:dgram";
import type { HostPort } from "./ice_servers.ts";
import type { Clock } from "../runtime.ts";
import { COOKIE, message, overUdp, parse } from "./stun_message.ts";

const BINDING = 1, MAPPED = 1, XOR_MAPPED = 32, IPV4 = 1;

/** An address and port. */
export interface Mapping {
  readonly address: string;
  readonly port: number;
}

/** What the servers see, in their order; undefined for one that did not answer. IPv4, as others hardly stand behind a NAT. */
export async function probeStun(
  servers: readonly HostPort[],
  clock: Clock,
): Promise<(Mapping | undefined)[]> {
  const socket = createSocket("udp4"), seen: (Mapping | undefined)[] = [];
  try {
    for (const server of servers) {
      const response = await overUdp(server, clock, socket).ask(message(BINDING, []));
      seen.push(response && mappingOf(response));
    }
  } finally {
    socket.close();
  }
  return seen;
}

/** What stands between this machine and the servers. */
export type Nat = "none" | "one address for all" | "another address for each" | "some";

/** Which kind of NAT answers to what several servers saw, given this machine's own addresses. */
export function natOf(seen: readonly Mapping[], own: readonly string[]): Nat {
  if (seen.every(({ address }) => own.includes(address))) return "none";
  if (seen.length < 2) return "some";
  return seen.every(({ address, port }) => address === seen[0].address && port === seen[0].port)
    ? "one address for all"
    : "another address for each";
}

function mappingOf(response: Buffer): Mapping | undefined {
  const attributes = parse(response),
    plain = attributes.get(MAPPED),
    value = attributes.get(XOR_MAPPED) ?? plain;
  if (value === undefined || value.length < 8 || value[1] !== IPV4) return undefined;
  const mask = Buffer.alloc(4);
  if (value !== plain) mask.writeUInt32BE(COOKIE);
  return {
    port: value.readUInt16BE(2) ^ mask.readUInt16BE(0),
    address: [...value.subarray(4, 8)].map((byte, i) => byte ^ mask[i]).join("."),
  };
}
