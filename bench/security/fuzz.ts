/**
 * Does anything break of a million lies of a peer? In one process that must be there afterwards: 600,000 messages on links,
 * 300,000 control messages and headers, 100,000 descriptions; then 100,000 datagrams of a stranger on an open link of each
 * pair of transports, in processes that must be there afterwards, too. A promise that nobody awaits and rejects would end
 * them. Wanted: every frame arrives, and memory grows by at most 48 MiB in the second half. `--datagrams`: only those.
 *
 * @module
 */
import { objects } from "../../cli/lines.ts";
import { startModule } from "../harness/processes.ts";
import type { Flooded } from "./hostile_datagrams.ts";
import { fuzzDescriptions, fuzzLinks, fuzzMessages } from "./fuzz_messages.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";

/** One line for the list of benches. */
export const title = "a million mutated frames and control messages, a hundred thousand hostile datagrams";

const DATAGRAMS = 100_000;
/**
 * By how much resident memory of both ends and the stranger may grow in the second half of the datagrams. In the first half
 * code is compiled and heaps reach their size; afterwards nothing may be kept, and 50,000 datagrams have some 140 MiB.
 */
const MOST_MORE = 48 * 2 ** 20;
const PAIRS = [["werift", "werift"], ["native", "native"], ["werift", "native"]] as const;

/** A flooded link in a process of its own, and by how many bytes that grew in each half of the flood. */
type Drowned = Flooded & { more: [number, number] };

/** Flags besides --json. */
export const flags: BenchFlags = { switches: ["datagrams"] };

/** Runs all of it and says what came of it. */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  const only = flags.has("datagrams");
  const before = Deno.memoryUsage().rss, began = performance.now();
  const results = only ? {} : {
    links: await fuzzLinks(600_000, 11),
    messages: fuzzMessages(300_000, 12),
    descriptions: fuzzDescriptions(100_000, 13),
  };
  const more = Deno.memoryUsage().rss - before, floods: Record<string, Drowned> = {};
  for (const [i, pair] of PAIRS.entries()) floods[pair.join(" to ")] = await flood(pair, 14 + i);
  const seconds = (performance.now() - began) / 1_000;
  const sound = Object.values(floods).every(({ orderly, sent, arrived, more }) =>
    orderly && sent === arrived && more[1] <= MOST_MORE
  );
  record({ ...results, floods, seconds, more });
  for (const [name, { tried, refused }] of Object.entries(results)) {
    print(
      `${name.padEnd(14)}${tried} tried, ${refused} ${name === "links" ? "links ended" : "refused"}`,
    );
  }
  for (const [name, { datagrams, sent, arrived, orderly, more }] of Object.entries(floods)) {
    print(
      `${
        name.padEnd(18)
      }${datagrams} hostile datagrams on an open link: ${arrived} of ${sent} frames arrived, ` +
        `${orderly ? "closed in good order" : "and it broke"}; resident memory grew by ${
          mib(more[0])
        } MiB in the first half, ${mib(more[1])} in the second (at most ${mib(MOST_MORE)})`,
    );
  }
  print(`${seconds.toFixed(0)} s, this process grew by ${mib(more)} MiB`);
  return sound;
}

const mib = (bytes: number) => (bytes / 2 ** 20).toFixed(0);

/** Floods a link in a process of its own, as the native library needs a permission that others do not. */
async function flood(pair: readonly [string, string], seed: number): Promise<Drowned> {
  const permissions = ["--allow-net", "--allow-env", "--allow-sys", "--allow-read", "--allow-ffi"];
  const args = [...pair, String(DATAGRAMS), String(seed)];
  const process = startModule(new URL("datagram_process.ts", import.meta.url), args, { permissions });
  const [drowned] = await Array.fromAsync(objects<Drowned>(process.stdout));
  if (!(await process.status).success) {
    throw new Error(`The link from ${pair.join(" to ")} did not survive the flood`);
  }
  return drowned;
}
