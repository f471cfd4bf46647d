/**
 * `deno task test:network`: a small recipe trained by two workers behind separate NATs, through a TURN server and nothing
 * else, over UDP and then over TCP with UDP blocked; the weights are those of a mesh in memory. Wrong credentials and
 * blocked UDP are told by name.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { type Running, volary } from "../../demo/processes.ts";
import { openDevice } from "../../kernels/mod.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { smallRecipe, smallText } from "../coordinator/small_run.ts";
import { Internet, obstacle, SERVER } from "./namespaces.ts";

const PORT = 3478, STEPS = 6, USER = "someone", PASSWORD = "a password of the test";
const recipe = smallRecipe({ stages: 2, steps: STEPS }).replace("a.txt", "text.txt");
const env = { VOLARY_TURN_USER: USER, VOLARY_TURN_PASSWORD: PASSWORD };

const why = await obstacle();
if (why !== undefined) {
  console.log(`skipped: ${why}`);
  Deno.exit(0);
}

const expected = await inMemory();
const folder = await Deno.makeTempDir(), internet = await Internet.make();
let server: Deno.ChildProcess | undefined;
try {
  server = await turnServer();
  await Deno.writeTextFile(join(folder, "text.txt"), smallText);
  await Deno.writeTextFile(join(folder, "small.toml"), recipe);
  await train("udp");
  await internet.blockUdp();
  await train("tcp");
} finally {
  server?.kill("SIGKILL");
  await server?.status;
  await internet.close();
  await Deno.remove(folder, { recursive: true });
}
Deno.exit(0);

/** The weights of the undisturbed run. */
async function inMemory(): Promise<Uint8Array> {
  const storage = new MemoryStorage();
  storage.text("/text.txt", smallText);
  const mesh = await MeshInMemory.start({
    workers: 2,
    device: () => openDevice({ kind: "reference" }),
    storage,
  });
  const end = await mesh.run(recipe);
  await mesh.close();
  assert(end.event === "done", JSON.stringify(end));
  const path = `${end.path}/model.safetensors`;
  return await storage.read(path, 0, (await storage.size(path))!);
}

async function turnServer(): Promise<Deno.ChildProcess> {
  const config = join(folder, "turn.conf");
  await Deno.writeTextFile(
    config,
    [
      `listening-ip=${SERVER}`,
      `listening-port=${PORT}`,
      `relay-ip=${SERVER}`,
      "realm=volary",
      `user=${USER}:${PASSWORD}`,
      "lt-cred-mech",
      "fingerprint",
      "no-cli",
      "no-tls",
      "no-dtls",
      `pidfile=${join(folder, "turn.pid")}`,
      `log-file=${join(folder, "turn.log")}`,
      "simple-log",
    ].join("\n"),
  );
  const [name, ...args] = [...internet.within("wan"), "turnserver", "-c", config];
  const process = new Deno.Command(name, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  return process;
}

async function train(transport: "udp" | "tcp"): Promise<void> {
  const state = join(folder, transport),
    turn = `turn:${SERVER}:${PORT}?transport=${transport}`,
    started: Running[] = [];
  const start = (where: string, name: string, args: readonly string[], more: Record<string, string> = {}) => {
    const running = volary(name, args, { within: internet.within(where), env: { ...env, ...more } });
    started.push(running);
    return running;
  };
  const began = performance.now();
  try {
    const up = start("wan", "up", ["up", "--port", "0", "--host", SERVER, "--state", state]);
    const invite = String((await wait(up, "up")).invite), rest = drain(up);
    const joins = (home: string, more: readonly string[], variables?: Record<string, string>) =>
      start(home, home, [
        ...["join", invite, "--device", "reference", "--name", home, "--key", join(state, `${home}.key`)],
        ...["--relay-only", ...more],
      ], variables);

    const refused = joins("a", ["--turn", turn], { VOLARY_TURN_PASSWORD: "wrong" });
    await drain(refused);
    assertEquals((await refused.status).code, 1);
    assertStringIncludes(refused.said(), "refuses: 401");
    if (transport === "tcp") {
      const blocked = joins("a", ["--turn", turn.replace("tcp", "udp")]);
      await drain(blocked);
      assertEquals((await blocked.status).code, 1);
      assertStringIncludes(blocked.said(), "UDP seems to be blocked");
    }

    const workers = ["a", "b"].map((home) => joins(home, ["--turn", turn]));
    const heard = workers.map(drain);
    const run = start("wan", "run", ["run", join(folder, "small.toml"), "--state", state, "--workers", "2"]);
    const events = await drain(run), done = events.at(-1);
    assertEquals((await run.status).code, 0, `${run.said()}\n${workers.map((w) => w.said()).join("\n")}`);
    const weights = await Deno.readFile(join(String(done?.path), "model.safetensors"));
    assert(
      weights.length === expected.length && weights.every((byte, i) => byte === expected[i]),
      "the weights differ",
    );
    assert(started.every((running) => !running.said().includes(PASSWORD)), "the password is told");
    await up.end();
    await Promise.all([rest, ...heard]);
    const seconds = ((performance.now() - began) / 1_000).toFixed(0);
    console.log(
      `ok: two NATs, TURN over ${transport} alone: ${STEPS} steps to the weights of a mesh in memory (${seconds} s)`,
    );
  } finally {
    await Promise.all(started.map((running) => running.end()));
  }
}

type Line = Record<string, unknown>;

/** The first of a process's events that is called `name`. */
async function wait(running: Running, name: string): Promise<Line> {
  for (let next = await running.events.next(); !next.done; next = await running.events.next()) {
    if (next.value.event === name) return next.value;
  }
  throw new Error(`${running.name} ended before it said "${name}": ${running.said()}`);
}

async function drain(running: Running): Promise<Line[]> {
  const lines: Line[] = [];
  for await (const line of running.events) lines.push(line);
  return lines;
}
