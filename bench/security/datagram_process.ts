/**
 * A link in a process of its own under a flood of hostile datagrams. Arguments: the transports of both ends, how many
 * datagrams, the seed. Prints what became of it as JSON, with the growth of resident memory in each half; a promise that nobody awaits and rejects would end it before.
 *
 * @module
 */
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { nativeTransport } from "../../mesh/transports/native_transport.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import { floodLink } from "./hostile_datagrams.ts";

const [one, other, count, seed] = Deno.args, clock = denoRuntime();
const make = (kind: string) =>
  (kind === "native" ? nativeTransport : weriftTransport)({ clock, loopback: true });
const rss = () => Deno.memoryUsage().rss, before = rss();
let half = 0;
const flooded = await floodLink(
  [make(one), make(other)],
  clock,
  Number(count),
  Number(seed),
  () => half = rss(),
);
console.log(JSON.stringify({ ...flooded, more: [half - before, rss() - half] }));
Deno.exit(0);
