/**
 * `--turn`, `--turn-credentials`, `--turn-secret-file` and `--relay-only`: a TURN server for a command, and what is wrong
 * with it.
 *
 * @module
 */
import { TurnGrants } from "../coordinator/admission/turn_grants.ts";
import { readOwn } from "../mesh/identity/deno_key_file.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { LinkError } from "../mesh/errors.ts";
import { type IceServers, parseStun, parseTurn, turnText } from "../mesh/transports/ice_servers.ts";
import { natOf, probeStun } from "../mesh/transports/stun_probe.ts";
import { probeTurn } from "../mesh/transports/turn_probe.ts";
import { CommandError, UsageError } from "./verb.ts";

/** Lines of `--help`. */
export const TURN_HELP =
  `  --stun HOST:PORT  ask this server how this machine's address looks from outside, so that others
                  behind a NAT reach it; with a second one behind a comma \`volary doctor\` says
                  which kind of NAT there is
  --turn URL      reach others through a TURN server: turn:HOST:PORT, turn:HOST:PORT?transport=tcp
                  where UDP is blocked, or turns:HOST:PORT for TLS; default: the coordinator's,
                  where it names one (\`volary up --turn\`)
  --turn-credentials FILE
                  user:password for it; default: the variables VOLARY_TURN_USER and
                  VOLARY_TURN_PASSWORD
  --relay-only    use nothing but the TURN server, so that others do not learn this machine's
                  addresses`;

/** The part of a command's flags that is read here. */
interface Flags {
  has(name: string): boolean;
  text(name: string): string | undefined;
}

/** The servers that the flags name; undefined: none. Throws `UsageError` and `CommandError`. */
export async function serversOf(flags: Flags): Promise<IceServers | undefined> {
  const url = flags.text("turn"), relayOnly = flags.has("relay-only"), named = flags.text("stun");
  try {
    const stun = named === undefined ? undefined : parseStun(named);
    if (url === undefined) return stun || relayOnly ? { ...(stun && { stun }), relayOnly } : undefined;
    const server = parseTurn(url);
    const [username, password] = await credentials(flags.text("turn-credentials"));
    return { turn: { ...server, username, password }, stun, relayOnly };
  } catch (error) {
    if (error instanceof LinkError) throw new UsageError(error.message);
    throw error;
  }
}

async function credentials(file: string | undefined): Promise<[user: string, password: string]> {
  if (file === undefined) {
    const user = Deno.env.get("VOLARY_TURN_USER"), password = Deno.env.get("VOLARY_TURN_PASSWORD");
    if (user && password) return [user, password];
    throw new UsageError(
      "The TURN server needs a user and a password: set VOLARY_TURN_USER and VOLARY_TURN_PASSWORD, or name a file that holds " +
        "user:password (--turn-credentials).",
    );
  }
  let text;
  try {
    text = (await Deno.readTextFile(file)).trim();
  } catch (error) {
    throw new CommandError(`Cannot read the TURN credentials in ${file}: ${(error as Error).message}`);
  }
  const colon = text.indexOf(":");
  if (colon < 1) throw new CommandError(`${file} should hold one line, user:password, for the TURN server.`);
  return [text.slice(0, colon), text.slice(colon + 1)];
}

/**
 * What gives workers their names for the TURN server of `up --turn URL --turn-secret-file FILE`; undefined: there is none.
 * Throws `UsageError`, and `CommandError` where the server does not know the secret; tells where it does not answer.
 */
export async function grantsOf(flags: Flags, tell: (text: string) => void): Promise<TurnGrants | undefined> {
  const url = flags.text("turn"), file = flags.text("turn-secret-file");
  if (url === undefined && file === undefined) return undefined;
  if (url === undefined || file === undefined) {
    throw new UsageError("--turn and --turn-secret-file go together.");
  }
  let server;
  try {
    server = parseTurn(url);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const secret = (await readOwn(file))?.trim();
  if (secret === undefined) throw new CommandError(`There is no ${file} (--turn-secret-file).`);
  if (secret === "") {
    throw new CommandError(`${file} is empty: it should hold the TURN server's secret (static-auth-secret).`);
  }
  const clock = denoRuntime(), grants = new TurnGrants(server, secret, clock);
  const { username, password } = await grants.grant("coordinator");
  const answer = await probeTurn({ ...server, username, password }, clock);
  if (answer.answer === "refused" && answer.code === 401) {
    throw new CommandError(
      `${turnText(server)} refuses what was made from the secret in ${file}: 401 ${answer.reason}. It ` +
        "must be the server's own (coturn: use-auth-secret and static-auth-secret), and both clocks " +
        "must be right.",
    );
  }
  if (answer.answer !== "granted") {
    const why = answer.answer === "none" ? "does not answer" : `answers ${answer.code} ${answer.reason}`;
    tell(`${turnText(server)} ${why} from here; workers are told of it all the same.`);
  }
  return grants;
}

/** What a TURN server says to us; `advice` where it does not help. */
export async function turnState(
  { turn }: IceServers,
): Promise<{ ok: boolean; found: string; advice?: string }> {
  const clock = denoRuntime(), name = turnText(turn!), result = await probeTurn(turn!, clock);
  if (result.answer === "granted") {
    return { ok: true, found: `${name} gives addresses, in ${result.ms.toFixed(0)} ms` };
  }
  if (result.answer === "refused") {
    const advice = result.code === 401
      ? "Its user or password is wrong, or has expired: ask whoever runs it."
      : "Ask whoever runs it, or try later.";
    return { ok: false, found: `${name} refuses: ${result.code} ${result.reason}`.trim(), advice };
  }
  if (turn!.transport === "udp") {
    const tcp = await probeTurn({ ...turn!, transport: "tcp" }, clock);
    if (tcp.answer !== "none") {
      const advice = `UDP seems to be blocked on the way: --turn ${turnText({ ...turn!, transport: "tcp" })}`;
      return { ok: false, found: `${name} does not answer over UDP, but over TCP it does`, advice };
    }
  }
  return {
    ok: false,
    found: `${name} does not answer`,
    advice: turn!.transport === "tls"
      ? "Check its address and port, and that its certificate is good for that name (one of your own: DENO_CERT=FILE)."
      : "Check its address and port, and that this machine may connect to it.",
  };
}

/** What STUN servers say about this machine's address. */
export async function natState(
  { stun }: IceServers,
): Promise<{ ok: boolean; found: string; advice?: string }> {
  const seen = await probeStun(stun!, denoRuntime()), answered = seen.filter((each) => each !== undefined);
  if (answered.length === 0) {
    const advice = "UDP may be blocked on the way, or nobody is there: try a TURN server over TCP (--turn).";
    return { ok: false, found: "no STUN server answers", advice };
  }
  const own = Deno.networkInterfaces().map(({ address }) => address), [{ address, port }] = answered;
  switch (natOf(answered, own)) {
    case "none":
      return { ok: true, found: `no NAT: seen from outside as ${address}, an address of this machine` };
    case "one address for all":
      return {
        ok: true,
        found: `a NAT that shows one address to all, ${address}:${port}: others reach it by STUN`,
      };
    case "some":
      return {
        ok: true,
        found: `a NAT shows ${address}:${port}; a second STUN server would say of which kind it is`,
      };
    case "another address for each": {
      const advice =
        "Workers behind another such NAT do not reach this one without a TURN server: --turn turn:HOST:PORT.";
      return {
        ok: false,
        found: `a NAT that shows another address to each (${address}:${port}, ...)`,
        advice,
      };
    }
  }
}

/** Throws `CommandError` where a named TURN server is of no use. */
export async function checkTurn(servers: IceServers | undefined): Promise<void> {
  if (servers?.turn === undefined) return;
  const { ok, found, advice } = await turnState(servers);
  if (!ok) throw new CommandError(`${found}. ${advice}`);
}
