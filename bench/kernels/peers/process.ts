/**
 * A peer in a process of its own, with packages that nothing else here needs: reads one request a line, {"product": layout,
 * "calls": n} or {"steps": n}, and answers each with one line of JSON. The first line that it writes is its name, or why it
 * cannot run here.
 *
 * @module
 */
import { objects } from "../../../cli/lines.ts";
import type { Peer, ProductLayout } from "./problem.ts";

type Request = { readonly product: ProductLayout; readonly calls: number } | { readonly steps: number };

const write = (value: unknown) =>
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(value)}\n`));

async function open(name: string): Promise<Peer> {
  if (name === "tfjs") return await (await import("./tfjs.ts")).tfjs();
  return await (await import("./jax.ts")).jaxJs();
}

async function main(): Promise<void> {
  let peer: Peer;
  try {
    peer = await open(Deno.args[0]);
  } catch (error) {
    write({ absent: error instanceof Error ? error.message : String(error) });
    return;
  }
  write({ name: peer.name });
  for await (const request of objects<Request>(Deno.stdin.readable)) {
    write(
      "product" in request
        ? await peer.product(request.product, request.calls)
        : await peer.steps(request.steps),
    );
  }
  peer.close();
}

await main();
Deno.exit();
