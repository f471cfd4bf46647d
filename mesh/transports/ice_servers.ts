/**
 * Servers that help two workers to reach each other. None is used unless the user names it.
 *
 * @module
 */
import { LinkError } from "../errors.ts";

/** Where a server is. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Where a TURN server is, and how it is spoken to. */
export interface TurnAddress extends HostPort {
  /** Between this machine and the server ("tls": over TCP); the server and the peers always speak UDP. */
  readonly transport: "udp" | "tcp" | "tls";
}

/** A TURN server and who may use it. */
export interface TurnServer extends TurnAddress {
  readonly username: string;
  readonly password: string;
}

/** How a transport finds ways beyond this machine's own addresses. */
export interface IceServers {
  readonly turn?: TurnServer;
  /** STUN servers: they tell this machine how its address looks from outside. Transports use the first one. */
  readonly stun?: readonly HostPort[];
  /** Use and offer the TURN server's address alone: peers do not learn this machine's own. */
  readonly relayOnly?: boolean;
}

const DEFAULT_PORT = 3478, DEFAULT_TLS_PORT = 5349;

/** Reads `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT]` (RFC 7065). Throws `LinkError`. */
export function parseTurn(url: string): TurnAddress {
  const [, scheme, host, port, over] =
    url.match(/^(turns?):(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/) ?? [];
  const tls = scheme === "turns", number = Number(port ?? (tls ? DEFAULT_TLS_PORT : DEFAULT_PORT));
  if (host === undefined || number < 1 || number > 65_535 || tls && over === "udp") {
    throw new LinkError(
      `"${url}" is no TURN server: write turn:HOST:PORT, turn:HOST:PORT?transport=tcp, or turns:HOST:PORT for TLS`,
    );
  }
  const transport = tls ? "tls" : over === "tcp" ? "tcp" : "udp";
  return { host: host.replace(/^\[|\]$/g, ""), port: number, transport };
}

/** Reads `HOST[:PORT]`, several with commas between them. Throws `LinkError`. */
export function parseStun(text: string): HostPort[] {
  return text.split(",").map((one) => {
    const [, host, port] =
      one.trim().match(/^(?:stun:)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?$/) ?? [];
    const number = port === undefined ? DEFAULT_PORT : Number(port);
    if (host === undefined || number < 1 || number > 65_535) {
      throw new LinkError(`"${one}" is no STUN server: write HOST or HOST:PORT`);
    }
    return { host: host.replace(/^\[|\]$/g, ""), port: number };
  });
}

/** The STUN server that a transport is to use, as `stun:HOST:PORT`. Where only the relay may be used, there is none. */
export function stunText({ stun, relayOnly }: IceServers): string | undefined {
  if (stun === undefined || stun.length === 0 || relayOnly) return undefined;
  const [{ host, port }] = stun;
  return `stun:${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The server as text, without its credentials. */
export function turnText({ host, port, transport }: TurnAddress): string {
  const where = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  return transport === "tls" ? `turns:${where}?transport=tcp` : `turn:${where}?transport=${transport}`;
}

/** Throws `LinkError` where only a TURN server may be used and there is none. */
export function needsTurn({ turn, relayOnly }: IceServers): void {
  if (!relayOnly || turn !== undefined) return;
  throw new LinkError(
    "Cannot connect to the peer: only a TURN server may be used (--relay-only), and neither this worker (--turn) nor the " +
      "coordinator (`volary up --turn`) names one",
  );
}
