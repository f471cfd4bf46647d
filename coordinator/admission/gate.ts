/**
 * What holds for every request to the coordinator's port before anything else is looked at: whom it is addressed to, which
 * page sent it, how much comes from one address; and the headers of every answer.
 *
 * @module
 */
import { limits } from "../../mesh/limits.ts";

/** What is counted for each address. */
const MOST = { socket: limits.socketsOfAddress, request: limits.requestsOfAddress } as const;

/** Counts and refuses; one for each server. */
export class Gate {
  readonly #names: ReadonlySet<string>;
  readonly #inside = new Map<string, number>();

  /** `names`: hosts under which the server is reached beside addresses and localhost. */
  constructor(names: readonly string[]) {
    this.#names = new Set(names.map((name) => name.toLowerCase()));
  }

  /**
   * The status to refuse with, or undefined. A host that is a name of somebody else's is how a page anywhere reaches
   * into this machine (DNS rebinding); an origin that is not this server's is a page of somebody else.
   */
  refuses(request: Request): 403 | 421 | undefined {
    const host = request.headers.get("host"), origin = request.headers.get("origin");
    const url = host === null ? undefined : parse(`http://${host}`);
    if (url === undefined || !this.#known(url.hostname)) return 421;
    // A proxy in front changes the scheme, and perhaps the port; the name is what a page cannot choose.
    if (origin !== null && parse(origin)?.hostname !== url.hostname) return 403;
  }

  /** Takes one more of an address in; what it answers with is called when it is over. Undefined: there are too many. */
  enter(address: string, what: keyof typeof MOST): (() => void) | undefined {
    if (loopback(address)) return () => {}; // this machine, or the proxy through which all come
    const key = `${what} ${address}`, count = this.#inside.get(key) ?? 0;
    if (count >= MOST[what]) return undefined;
    this.#inside.set(key, count + 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      const left = this.#inside.get(key)! - 1;
      if (left > 0) this.#inside.set(key, left);
      else this.#inside.delete(key);
    };
  }

  #known(name: string): boolean {
    return name === "localhost" || /^\d+\.\d+\.\d+\.\d+$/.test(name) || name.startsWith("[") ||
      this.#names.has(name);
  }
}

/** Whether an address is this machine's own. */
export function loopback(address: string): boolean {
  return address === "::1" || /^(::ffff:)?127\./.test(address);
}

/** An answer with the headers that keep a browser from doing more with it than is meant. */
export function secured(response: Response, { host = "", tls = false } = {}): Response {
  const { headers } = response;
  headers.set("x-content-type-options", "nosniff");
  headers.set("x-frame-options", "DENY");
  headers.set("referrer-policy", "no-referrer");
  headers.set("cross-origin-resource-policy", "same-origin");
  headers.set("cross-origin-opener-policy", "same-origin");
  headers.set("cache-control", "no-store");
  headers.set(
    "content-security-policy",
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; " +
      `frame-ancestors 'none'; connect-src 'self' ws://${host} wss://${host}`,
  );
  if (tls) headers.set("strict-transport-security", "max-age=31536000");
  return response;
}

function parse(url: string): URL | undefined {
  try {
    return new URL(url);
  } catch {
    return undefined;
  }
}
