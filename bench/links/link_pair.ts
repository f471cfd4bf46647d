/**
 * Two ends of a link as two processes, with what they signal carried between them, through a relay where wanted.
 *
 * @module
 */
import { lines } from "../../cli/lines.ts";
import { killed, startModule, writeLine } from "../harness/processes.ts";
import type { LinkProcessOptions, Received } from "./link_process.ts";
import type { Relay } from "./relay.ts";

/** What an end says. */
export type LinkEvent = { readonly event: string } & Record<string, unknown>;

/** One end. */
export interface LinkEnd {
  readonly process: Deno.ChildProcess;
  /** Everything it has said. */
  readonly events: LinkEvent[];
  /** Its next event of this name; rejects when it ends before. */
  next(event: string): Promise<LinkEvent>;
}

/** Starts both ends. `end` ends what still runs. */
export function linkPair(
  sender: Omit<LinkProcessOptions, "role">,
  receiver: Omit<LinkProcessOptions, "role">,
  relay?: Relay,
): { sender: LinkEnd; receiver: LinkEnd; end(): Promise<void> } {
  const ends = [start({ role: "send", ...sender }), start({ role: "receive", ...receiver })];
  const done = ends.map((end, i) => carry(end, ends[1 - i].process, relay));
  return {
    sender: ends[0],
    receiver: ends[1],
    async end() {
      await Promise.all([...ends.map(({ process }) => killed(process)), ...done]);
      await Promise.allSettled(ends.map(({ process }) => process.stdin.close()));
    },
  };
}

/** What became of both ends. */
export interface Ends {
  readonly received: Received;
  /** Resident memory at the end in bytes, and processor time in seconds. */
  readonly rss: readonly [sender: number, receiver: number];
  readonly cpu: readonly [sender: number, receiver: number];
  /** Connections that the sender had at its end. */
  readonly paths: number;
}

/** Both ends to their end. */
export async function ends(...options: Parameters<typeof linkPair>): Promise<Ends> {
  const pair = linkPair(...options);
  try {
    const closed = Promise.all([pair.sender.next("closed"), pair.receiver.next("closed")]);
    closed.catch(() => {});
    const received = await pair.receiver.next("received") as unknown as Received;
    const [sender, receiver] = await closed;
    const both = (key: string): Ends["rss"] => [Number(sender[key]), Number(receiver[key])];
    return { received, rss: both("rss"), cpu: both("cpu"), paths: Number(sender.paths) };
  } finally {
    await pair.end();
  }
}

interface Started extends LinkEnd {
  heard(event: LinkEvent): void;
  ended(): void;
}

function start(options: LinkProcessOptions): Started {
  const permissions = ["--allow-net", "--allow-env", "--allow-sys"];
  const process = startModule(new URL("link_process.ts", import.meta.url), [JSON.stringify(options)], {
    permissions: options.transport === "native"
      ? [...permissions, "--allow-ffi", "--allow-read"]
      : permissions,
    stdin: "piped",
  });
  const events: LinkEvent[] = [];
  let over = false,
    waiting: { event: string; resolve(event: LinkEvent): void; reject(error: Error): void }[] = [];
  return {
    process,
    events,
    next(event) {
      if (over) return Promise.reject(new Error(`The ${options.role}ing end has ended without "${event}"`));
      return new Promise((resolve, reject) => waiting.push({ event, resolve, reject }));
    },
    heard(event) {
      events.push(event);
      const mine = waiting.filter((each) => each.event === event.event);
      waiting = waiting.filter((each) => each.event !== event.event);
      for (const { resolve } of mine) resolve(event);
    },
    ended() {
      over = true;
      for (const { event, reject } of waiting) {
        reject(new Error(`The ${options.role}ing end has ended without "${event}"`));
      }
    },
  };
}

/** Reads what an end says: signals for the other end, events for us. */
async function carry(from: Started, to: Deno.ChildProcess, relay?: Relay): Promise<void> {
  for await (const line of lines(from.process.stdout)) {
    const said = JSON.parse(line) as { signal?: { attempt: number; body?: unknown } } & LinkEvent;
    if (said.signal === undefined) {
      from.heard(said);
      continue;
    }
    const { attempt, body } = said.signal;
    const passed = relay === undefined || body === undefined ? body : await relay.pass(String(attempt), body);
    const signal = passed === undefined ? { attempt } : { attempt, body: passed };
    await writeLine(to, JSON.stringify({ signal }));
  }
  from.ended();
}
