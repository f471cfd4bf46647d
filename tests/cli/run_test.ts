/** The road of a user, verb by verb, as processes: up, join, run, Ctrl-C, resume, status, generate, eval, inspect. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { objects } from "../../cli/lines.ts";
import { start, volary } from "./program.ts";

const text = Array.from(
  { length: 400 },
  (_, i) => `line ${i}: the ${["cat", "dog", "owl", "bee"][i * 7 % 4]} is ${i * i % 97}.\n`,
).join("");
const recipe = `
name = "road"
[model]
hidden_size = 16
intermediate_size = 12
num_hidden_layers = 2
num_attention_heads = 2
max_position_embeddings = 64
[data]
train = ["text.txt"]
validation = 0.2
[[phase]]
kind = "train"
steps = 60
batch = 4
microbatches = 2
sequence = 16
learning_rate = 1e-2
evaluate_batches = 1
`;

Deno.test("the road of a user", async () => {
  const folder = await Deno.makeTempDir(), state = join(folder, "state");
  const children: Deno.ChildProcess[] = [];
  const launch = (...args: string[]) => {
    const child = start(args);
    children.push(child);
    return child;
  };
  // What is not read must not fill its pipe.
  const drain = (stream: ReadableStream<Uint8Array>) => stream.pipeTo(new WritableStream());
  try {
    await Deno.writeTextFile(join(folder, "text.txt"), text);
    await Deno.writeTextFile(join(folder, "recipe.toml"), recipe);
    const up = launch("up", "--port", "0", "--state", state, "--json"), upSaid = objects(up.stdout);
    drain(up.stderr);
    const { invite, address } = (await upSaid.next()).value as { invite: string; address: string };
    await refusesOthers(address);
    assertEquals((await Deno.stat(join(state, "coordinator.json"))).mode! & 0o777, 0o600);
    const second = await volary("up", "--port", "0", "--state", state);
    assertEquals(second.code, 1);
    assertStringIncludes(second.stderr, "A coordinator runs with its state in");

    const worker = launch(
      "join",
      invite,
      "--device",
      "reference",
      "--name",
      "only",
      "--key",
      join(folder, "only.key"),
    );
    drain(worker.stdout);
    drain(worker.stderr);
    assertEquals((await upSaid.next()).value!.event, "joined");
    (async () => {
      for await (const _ of upSaid);
    })();

    // Ctrl-C after a few steps: saved, exit code 0.
    const path = join(folder, "recipe.toml"), args = ["run", path, "--state", state, "--json"];
    const run = launch(...args);
    const said = drain(run.stderr);
    let asked = false, last: Record<string, unknown> = {};
    for await (const event of objects(run.stdout)) {
      last = event;
      if (event.event === "step" && event.step === 5) run.kill("SIGINT");
      if (event.event === "step" && (event.step as number) >= 5) asked = true;
    }
    await said;
    assertEquals([asked, last.event, last.why], [true, "stopped", "asked"]);
    assertEquals((await run.status).code, 0);
    assertStringIncludes(String(last.resume), `run ${path} --resume --state ${state}`);
    const saved = Number(String(last.path).match(/step-(\d+)$/)![1]);
    assert(saved >= 5 && saved < 60, "stopped on the way");

    // Without --resume nothing is overwritten; with it the run goes on where it stopped.
    const again = await volary("run", path, "--state", state);
    assertEquals(again.code, 1);
    assertStringIncludes(again.stderr, "--resume");
    const rest = await volary(...args, "--resume");
    assertEquals(rest.code, 0, rest.stderr);
    const events = rest.stdout.trim().split("\n").map((line) => JSON.parse(line));
    const steps = events.flatMap((event) => event.event === "step" ? [event.step] : []);
    assertEquals(steps, Array.from({ length: 60 - saved }, (_, i) => saved + 1 + i));
    assertEquals(events.at(-1).event, "done");
    const metrics = (await Deno.readTextFile(join(state, "road", "metrics.jsonl"))).trim().split("\n");
    const all = metrics.map((line) => JSON.parse(line)).flatMap((event) =>
      event.event === "step" ? [event.step] : []
    );
    assertEquals(all, Array.from({ length: 60 }, (_, i) => i + 1));

    const status = JSON.parse((await volary("status", "--state", state, "--json")).stdout);
    assertEquals(status.workers.map((w: { worker: string }) => w.worker), ["only"]);
    assertEquals([status.run.name, status.run.active, status.run.end.event], ["road", false, "done"]);
    assertStringIncludes((await volary("status", "--state", state)).stderr, "The last run was road");
    // What its steps have shown is kept for the next coordinator.
    const paces = JSON.parse(await Deno.readTextFile(join(state, "paces.json")));
    assertEquals(
      paces.workers.map(({ worker }: { worker: string }) => worker),
      status.workers.map(
        ({ worker }: { worker: string }) => worker,
      ),
    );
    assert(status.workers.every(({ shown }: { shown?: number }) => shown! > 0));

    const model = join(state, "road", "latest");
    const options = ["--prompt", "line ", "--tokens", "20", "--device", "reference", "--greedy"];
    const [one, two] = [
      await volary("generate", model, ...options),
      await volary("generate", model, ...options),
    ];
    assertEquals(one.code, 0, one.stderr);
    assert(one.stdout.startsWith("line ") && one.stdout.length > 6);
    assertEquals(one.stdout, two.stdout);
    const long = await volary("generate", model, "--prompt", "x".repeat(65), "--device", "reference");
    assertEquals([long.code, long.stdout], [1, ""]);
    assertStringIncludes(long.stderr, "66 tokens, and the model was made for 64");
    const measured = await volary(
      "eval",
      model,
      "--text",
      join(folder, "text.txt"),
      "--device",
      "reference",
      "--json",
    );
    const { nll, bits_per_byte: bits } = JSON.parse(measured.stdout);
    assert(nll < 4 && Math.abs(bits - nll / Math.LN2) < 0.05, measured.stdout);
    assertEquals((await volary("inspect", model)).code, 0);
  } finally {
    for (const child of children.reverse()) {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await child.status;
    }
    assertEquals(await Deno.stat(join(state, "coordinator.json")).catch(() => "gone"), "gone");
    await Deno.remove(folder, { recursive: true });
  }
});

/** Without the owner's secret or an invite nothing is served but the page for browsers, which is the same for everybody. */
async function refusesOthers(address: string): Promise<void> {
  for (const path of ["/mesh", "/status", "/run", "/links", "/nothing"]) {
    for (const headers of [new Headers(), new Headers({ authorization: "Bearer wrong" })]) {
      const response = await fetch(address + path, { method: path === "/run" ? "POST" : "GET", headers });
      assertEquals([response.status, await response.text()], [404, ""]);
    }
  }
}
