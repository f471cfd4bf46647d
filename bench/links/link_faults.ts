/**
 * Faults of a link between two processes, as their ends tell of them: a cable cut, a process stopped or killed. When silence
 * is suspected, when it counts as death, when all goes on, and whether every frame came once.
 *
 * @module
 */
import { join } from "@std/path";
import { CommandError } from "../../cli/verb.ts";
import { type Running, volary } from "../../demo/processes.ts";
import { limits } from "../../mesh/limits.ts";
import type { Output } from "../harness/bench.ts";
import { type LinkEnd, type LinkEvent, linkPair } from "./link_pair.ts";
import type { Failures } from "./link_text.ts";
import { Relay } from "./relay.ts";

/** Frames flow for so long before the damage, ms. */
const CALM_MS = 1_000;
/** Silence may last so long until it is suspected, and a coordinator may need so long for a process that died, ms. */
const SUSPECTED_MS = 1_500, NOTICED_MS = 1_000;
const FRAME_BYTES = 20_000;

type Pair = ReturnType<typeof linkPair>;

interface Fault {
  readonly name: string;
  /** For how long the sender sends, ms. */
  readonly ms: number;
  /** For how long it lasts, ms; without end where the link cannot outlive it. */
  readonly lasts: number;
  readonly begin: (pair: Pair, relay: Relay) => void;
  readonly end?: (pair: Pair, relay: Relay) => void;
}

const FAULTS: readonly Fault[] = [
  {
    name: "cable cut for 3 s",
    ms: 7_000,
    lasts: 3_000,
    begin: (_pair, relay) => relay.cut = true,
    end: (_pair, relay) => relay.cut = false,
  },
  {
    name: "SIGSTOP for 3 s",
    ms: 7_000,
    lasts: 3_000,
    begin: ({ receiver }) => receiver.process.kill("SIGSTOP"),
    end: ({ receiver }) => receiver.process.kill("SIGCONT"),
  },
  { name: "cable cut for 30 s", ms: 60_000, lasts: Infinity, begin: (_pair, relay) => relay.cut = true },
  { name: "kill -9", ms: 60_000, lasts: Infinity, begin: ({ receiver }) => receiver.process.kill("SIGKILL") },
];

/** Does each damage once and prints what came of it. */
export async function faults(output: Output): Promise<Failures> {
  if (Deno.build.os === "windows") {
    throw new CommandError(
      "Faults stop processes with SIGSTOP, which Windows lacks: measure on Linux or macOS.",
    );
  }
  const failures: Failures = [];
  output.print(
    `\nwerift, 10 ms there and back; wanted: suspected after ${SUSPECTED_MS} ms at most, dead after about ${limits.deadMs} ms:`,
  );
  for (const fault of FAULTS) failures.push(...await damage(fault, output));
  const noticed = await killedWorker(), text = `${noticed} ms until the coordinator says so`;
  output.record({ fault: "worker killed", noticed });
  output.print(`  ${"worker killed".padEnd(20)}${text}`);
  if (noticed > NOTICED_MS) failures.push(`worker killed: ${text}, goal ${NOTICED_MS}`);
  return failures;
}

async function damage({ name, ms, lasts, begin, end }: Fault, { record, print }: Output): Promise<Failures> {
  const relay = new Relay({ roundTrip: 10, loss: 0, seed: 1 });
  const common = { transport: "werift", frameBytes: FRAME_BYTES } as const;
  const pair = linkPair({ ...common, ms }, common, relay), { sender, receiver } = pair;
  try {
    await Promise.all([sender.next("open"), receiver.next("open")]);
    await pause(CALM_MS);
    const from = Date.now(), after = ({ at }: LinkEvent) => Number(at) - from;
    const suspected = sender.next("suspected").then(after);
    const closed = sender.next("closed"), received = lasts < Infinity ? receiver.next("received") : undefined;
    const sent = lasts < Infinity ? sender.next("sent") : undefined;
    closed.catch(() => {}); // asked for only where the link does not outlive it
    begin(pair, relay);
    let healed = NaN;
    if (end !== undefined) {
      await pause(lasts);
      end(pair, relay);
      healed = await trusted(sender, from) - lasts;
    }
    const result = {
      fault: name,
      suspected: await suspected,
      healed,
      dead: NaN,
      frames: NaN,
      came: NaN,
      wrong: NaN,
    };
    if (sent === undefined || received === undefined) result.dead = after(await closed);
    else {
      const { frames: came, wrong } = await received;
      Object.assign(result, { frames: (await sent).frames, came, wrong });
    }
    const fate = sent === undefined
      ? `dead after ${result.dead} ms`
      : `goes on ${healed} ms after its end; ${result.came} of ${result.frames} frames came, ${result.wrong} lost, doubled ` +
        "or out of order";
    record(result);
    print(`  ${name.padEnd(20)}suspected after ${result.suspected} ms; ${fate}`);
    return [
      ...result.suspected > SUSPECTED_MS ? [`${name}: suspected after ${result.suspected} ms`] : [],
      ...result.wrong > 0 || result.came !== result.frames && sent !== undefined ? [`${name}: ${fate}`] : [],
      ...result.dead > limits.deadMs + limits.suspectedMs ? [`${name}: ${fate}`] : [],
    ];
  } finally {
    await pair.end();
    relay.close();
  }
}

/** When an end heard from the other one again, ms after `from`. */
async function trusted(end: LinkEnd, from: number): Promise<number> {
  const said = end.events.find(({ event, suspected }) => event === "suspected" && suspected === false) ??
    await end.next("suspected");
  return Number(said.at) - from;
}

/** How long a coordinator needs until it says that a worker is gone which was killed, ms. */
async function killedWorker(): Promise<number> {
  const state = await Deno.makeTempDir(), started: Running[] = [];
  const start = (name: string, ...args: string[]) => {
    const running = volary(name, args);
    started.push(running);
    return running;
  };
  const wait = async (running: Running, event: string) => {
    for (let next = await running.events.next(); !next.done; next = await running.events.next()) {
      if (next.value.event === event) return next.value;
    }
    throw new Error(`${running.name} ended before "${event}": ${running.said()}`);
  };
  try {
    const up = start("up", "up", "--port", "0", "--state", state), { invite } = await wait(up, "up");
    const key = join(state, "worker.key");
    const worker = start("worker", "join", String(invite), "--device", "reference", "--key", key);
    (async () => {
      for await (const _ of worker.events); // a pipe that nobody reads fills
    })();
    await wait(up, "joined");
    const from = performance.now();
    Deno.kill(worker.pid, "SIGKILL");
    await wait(up, "left");
    return Math.round(performance.now() - from);
  } finally {
    await Promise.all(started.map((running) => running.end()));
    await Deno.remove(state, { recursive: true });
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
