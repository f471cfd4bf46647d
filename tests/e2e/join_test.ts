/** The program as people start it: a coordinator and two workers as processes, werift between them, a few steps. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { type Running, volary } from "../../demo/processes.ts";
import { openDevice } from "../../kernels/mod.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { firstEvent, joinArguments, type Line, remainingEvents } from "../running.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";

/** Everything must be over by then, on a slow machine too. */
const LIMIT_MS = 100_000;
const STEPS = 4;

const text = Array.from(
  { length: 120 },
  (_, i) => `The ${i}th fox of ${(i * 7) % 31} jumps; 狐狸跳过 ${i % 13} 次。`,
)
  .join("\n\n");

const recipe = `
name = "small"
[model]
model_type = "aquilamoe"
vocab_size = 259
hidden_size = 32
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
num_local_experts = 4
num_experts_per_tok = 2
attention_bias = true
tie_word_embeddings = true
seed = 5
[data]
train = ["text.txt"]
validation = 0.2
tokenizer = "bytes"
[mesh]
stages = 2
expert_hosts = 0
[[phase]]
kind = "train"
steps = ${STEPS}
batch = 4
microbatches = 2
sequence = 24
learning_rate = 1e-2
evaluate_batches = 1
`;

const losses = (events: readonly Line[]) =>
  events.filter(({ event }) => event === "step").map(({ loss }) => loss);

Deno.test("up, two joins and a run: trains over werift to the losses of a mesh in memory, and everyone ends well", async () => {
  const folder = await Deno.makeTempDir(), started: Running[] = [];
  const start = (name: string, args: readonly string[]) => {
    const running = volary(name, args);
    started.push(running);
    return running;
  };
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    for (const running of started) running.end();
  }, LIMIT_MS);
  try {
    await Deno.writeTextFile(join(folder, "text.txt"), text);
    await Deno.writeTextFile(join(folder, "small.toml"), recipe);
    const state = join(folder, "state");
    const up = start("up", ["up", "--port", "0", "--state", state]);
    const { invite } = await firstEvent(up, "up");
    const upRest = remainingEvents(up);
    const joins = ["left", "right"].map((name) => start(name, joinArguments(invite, name, folder)));
    const heard = joins.map(remainingEvents);
    const run = start("run", ["run", join(folder, "small.toml"), "--state", state, "--workers", "2"]);
    const lines = await remainingEvents(run);
    assertEquals((await run.status).code, 0, `${run.said()}\n${up.said()}`);
    const done = lines.at(-1)!;
    assertEquals(done.event, "done");
    assert((await Deno.stat(join(String(done.path), "model.safetensors"))).size > 0);

    await up.end();
    await upRest;
    assertEquals((await up.status).code, 0, up.said());
    for (const [i, running] of joins.entries()) {
      assertEquals((await running.status).code, 0, running.said());
      const events = (await heard[i]).map(({ event }) => event);
      assertEquals(events.slice(0, 3), ["profiled", "joined", "assigned"]);
      assertEquals(events.slice(-2), ["stopped", "ended"]);
      assert(!events.includes("failed"));
    }

    const storage = new MemoryStorage();
    await storage.write("/text.txt", 0, new TextEncoder().encode(text));
    const mesh = await MeshInMemory.start({
      workers: 2,
      device: () => openDevice({ kind: "reference" }),
      storage,
    });
    await mesh.run(recipe);
    await mesh.close();
    assertEquals(losses(lines).length, STEPS);
    assertEquals(losses(lines), mesh.steps().map(({ loss }) => loss));
  } finally {
    clearTimeout(timer);
    await Promise.all(started.map((running) => running.end()));
    await Deno.remove(folder, { recursive: true });
    assert(
      !late,
      `not over after ${LIMIT_MS / 1000} s: ${started.map((r) => `${r.name}: ${r.said()}`).join("\n")}`,
    );
  }
});
