/**
 * A million lies of a peer, in one process that must be there afterwards: 600,000 messages on links, 300,000 control
 * messages and headers, 100,000 descriptions; then 100,000 datagrams of a stranger on an open link. A promise that nobody
 * awaits and rejects would end it.
 *
 * @module
 */
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { weriftTransport } from "../mesh/werift_transport.ts";
import { floodLink } from "./hostile_datagrams.ts";
import { fuzzDescriptions, fuzzLinks, fuzzMessages } from "./fuzz_messages.ts";
import type { BenchOptions } from "./main.ts";

/** One line for the list of benches. */
export const title = "a million mutated frames and control messages, a hundred thousand hostile datagrams";

/** Runs all of it and says what came of it. */
export async function run({ json }: BenchOptions): Promise<void> {
  const before = Deno.memoryUsage().rss, began = performance.now();
  const results = {
    links: await fuzzLinks(600_000, 11),
    messages: fuzzMessages(300_000, 12),
    descriptions: fuzzDescriptions(100_000, 13),
  };
  const clock = denoRuntime();
  const floods = { werift: await floodLink(weriftTransport({ clock, loopback: true }), clock, 100_000, 14) };
  const seconds = (performance.now() - began) / 1_000, more = Deno.memoryUsage().rss - before;
  if (json) return console.log(JSON.stringify({ ...results, floods, seconds, more }));
  for (const [name, { tried, refused }] of Object.entries(results)) {
    console.log(
      `${name.padEnd(14)}${tried} tried, ${refused} ${name === "links" ? "links ended" : "refused"}`,
    );
  }
  for (const [name, { datagrams, sent, arrived, orderly }] of Object.entries(floods)) {
    console.log(
      `${
        name.padEnd(14)
      }${datagrams} hostile datagrams on an open link: ${arrived} of ${sent} frames arrived, ` +
        `${orderly ? "closed in good order" : "and it broke"}`,
    );
  }
  console.log(`${seconds.toFixed(0)} s, resident memory grew by ${(more / 2 ** 20).toFixed(0)} MiB`);
}
