/**
 * Servers that help two workers to reach each other. None is used unless the user names it.
 *
 * @module
 */
import { LinkError } from "./errors.ts";

/** Where a server is. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** A TURN server and who may use it. */
export interface TurnServer extends HostPort {
  /** Between this machine and the server; the server and the peers always speak UDP. */
  readonly transport: "udp" | "tcp";
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

const DEFAULT_PORT = 3478;

/** Reads `turn:HOST[:PORT][?transport=udp|tcp]` (RFC 7065). Throws `LinkError`. */
export function parseTurn(url: string, username: string, password: string): TurnServer {
  const [, host, port, transport = "udp"] =
    url.match(/^turn:(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$/) ?? [];
  const number = port === undefined ? DEFAULT_PORT : Number(port);
  if (host === undefined || number < 1 || number > 65_535) {
    throw new LinkError(`"${url}" is no TURN server: write turn:HOST:PORT, or turn:HOST:PORT?transport=tcp`);
  }
  if (username === "" || password === "") {
    throw new LinkError(
      "The TURN server needs a user and a password: set VOLARY_TURN_USER and VOLARY_TURN_PASSWORD, or name a file that " +
        "holds user:password (--turn-credentials).",
    );
  }
  return {
    host: host.replace(/^\[|\]$/g, ""),
    port: number,
    transport: transport as "udp" | "tcp",
    username,
    password,
  };
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
export function turnText({ host, port, transport }: TurnServer): string {
  return `turn:${host.includes(":") ? `[${host}]` : host}:${port}?transport=${transport}`;
}
