/** The product's first promise: a link that is opened in a browser, and its tab trains with a worker of Deno. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { smallRecipe, smallText } from "../coordinator/small_run.ts";
import { objects } from "../../cli/lines.ts";
import { start } from "../cli/program.ts";
import { openDevice } from "../../kernels/mod.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { chromium, openPage, type Page } from "./chromium.ts";
import { joinArguments } from "../running.ts";

const program = await chromium(), STEPS = 4;
const recipe = smallRecipe({ stages: 2, steps: STEPS }).replace("a.txt", "text.txt");

function end(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has ended by itself
  }
}

/** The weights of the same recipe in one process. */
async function inMemory(): Promise<Uint8Array> {
  const storage = new MemoryStorage();
  storage.text("/text.txt", smallText);
  const device = () => openDevice({ kind: "reference" });
  const mesh = await MeshInMemory.start({ workers: 2, device, storage });
  const end = await mesh.run(recipe);
  await mesh.close();
  assert(end.event === "done", JSON.stringify(end));
  const path = `${end.path}/model.safetensors`;
  return await storage.read(path, 0, (await storage.size(path))!);
}

/**
 * A tab that is opened with these flags trains the recipe with a worker of Deno called `name`; what it says of itself, and
 * the weights. Of two names the earlier one's end offers the connection.
 */
async function train(
  name: string,
  flags: readonly string[],
): Promise<{ facts: string; weights: Uint8Array }> {
  const folder = await Deno.makeTempDir(), state = join(folder, "state"), running: Deno.ChildProcess[] = [];
  const launch = (...args: string[]) => {
    const child = start([...args, "--json"]);
    running.push(child);
    const said = new Response(child.stderr).text();
    return { child, said, events: objects(child.stdout) };
  };
  let page: Page | undefined;
  try {
    await Deno.writeTextFile(join(folder, "text.txt"), smallText);
    await Deno.writeTextFile(join(folder, "small.toml"), recipe);
    const up = launch("up", "--port", "0", "--state", state), { value } = await up.events.next();
    const { page: address, invite } = value as { page: string; invite: string };
    const other = launch(...joinArguments(invite, name, folder));
    (async () => {
      for await (const _ of other.events); // a pipe that nobody reads stands still
    })();
    page = await openPage(program!, address, flags);
    const text = (selector: string) =>
      page!.evaluate(`document.querySelector("${selector}")?.innerText ?? ""`);
    while (await page.evaluate(`document.querySelector("#join")?.disabled`) !== true) {
      await page.evaluate(`document.querySelector("#join")?.click()`);
    }
    const run = launch("run", join(folder, "small.toml"), "--state", state, "--workers", "2");
    let last: Record<string, unknown> = {};
    for await (const event of run.events) last = event;
    assertEquals(last.event, "done", `${await run.said} ${await text("main")} ${page.log.join("\n")}`);
    const facts = String(await text("#facts"));
    assertMatch(facts, new RegExp(`linked to\\s+${name}\\b`));
    assertMatch(facts, /rounds\s+[1-9]/);
    return { facts, weights: await Deno.readFile(join(String(last.path), "model.safetensors")) };
  } finally {
    await page?.close();
    for (const child of running) {
      end(child);
      await child.status;
    }
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test({
  name: "a tab of Chromium joins by one link and trains with a worker of Deno, to the weights of one process",
  ignore: program === undefined,
  async fn() {
    const { weights } = await train("a", []), expected = await inMemory();
    assert(
      weights.length === expected.length && weights.every((byte, i) => byte === expected[i]),
      "other weights",
    );
  },
});

Deno.test({
  name:
    "a tab of Chromium trains on WebGPU (SwiftShader) with a worker of Deno, near the weights of plain arrays",
  ignore: program === undefined,
  async fn() {
    const { facts, weights } = await train("z", [
      "--enable-unsafe-webgpu",
      "--use-webgpu-adapter=swiftshader",
    ]);
    assertMatch(facts, /^device\s+(?!.*no WebGPU).*swiftshader/);
    const own = words(weights), expected = words(await inMemory());
    assertEquals(own.length, expected.length);
    const apart = own.reduce((most, word, i) => Math.max(most, Math.abs(word - expected[i])), 0);
    // Another device rounds exponentials and square roots otherwise; AdamW moves each weight by about the learning rate.
    assert(apart < 1e-4, `${apart} apart`);
  },
});

/** The f32 words of a safetensors file, behind its header. */
function words(file: Uint8Array): Float32Array {
  const header = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  return new Float32Array(file.slice(8 + header).buffer);
}
