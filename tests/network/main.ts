/**
 * `deno task test:network`: a small recipe trained by two workers behind separate NATs, through a TURN server and nothing
 * else: over UDP, then over TCP with UDP blocked, then over TLS with what the coordinator gives them to be known by there; the
 * weights are those of a mesh in memory. Wrong credentials, a wrong secret and blocked UDP are told by name.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { type Running, volary } from "../../demo/processes.ts";
import { openDevice } from "../../kernels/mod.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { certificateArguments, firstEvent, remainingEvents } from "../running.ts";
import { smallRecipe, smallText } from "../coordinator/small_run.ts";
import { command, Internet, obstacle, SERVER } from "./namespaces.ts";

const PORT = 3478, STEPS = 6, USER = "someone", PASSWORD = "a password of the test";
const recipe = smallRecipe({ stages: 2, steps: STEPS }).replace("a.txt", "text.txt");
const env = { VOLARY_TURN_USER: USER, VOLARY_TURN_PASSWORD: PASSWORD };
/** A second server, which takes what a secret marks, over TLS too. */
const SECRET_PORT = 3479, TLS_PORT = 5349, SECRET = "a secret of the test";

const why = await obstacle();
if (why !== undefined) {
  console.log(`skipped: ${why}`);
  Deno.exit(0);
}

const expected = await inMemory();
const folder = await Deno.makeTempDir(), internet = await Internet.make();
const servers: Deno.ChildProcess[] = [];
try {
  servers.push(await turnServer("turn", PORT, [`user=${USER}:${PASSWORD}`, "lt-cred-mech", "no-tls"]));
  await certificate();
  servers.push(
    await turnServer("secret", SECRET_PORT, [
      ...["use-auth-secret", `static-auth-secret=${SECRET}`, `tls-listening-port=${TLS_PORT}`],
      ...[`cert=${join(folder, "cert.pem")}`, `pkey=${join(folder, "key.pem")}`],
    ]),
  );
  await Deno.writeTextFile(join(folder, "text.txt"), smallText);
  await Deno.writeTextFile(join(folder, "small.toml"), recipe);
  await train("udp");
  await internet.blockUdp();
  await train("tcp");
  await train("tls");
} finally {
  for (const server of servers) server.kill("SIGKILL");
  await Promise.all(servers.map((server) => server.status));
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

/** Makes a certificate for the server's address, by which it is trusted (DENO_CERT), too. */
async function certificate(): Promise<void> {
  const files = { key: join(folder, "key.pem"), cert: join(folder, "cert.pem") };
  await command("openssl", ...certificateArguments("turn", `IP:${SERVER}`, files));
}

/** Starts coturn in the middle; `how` says whom it takes and whether it speaks TLS. */
async function turnServer(name: string, port: number, how: readonly string[]): Promise<Deno.ChildProcess> {
  const config = join(folder, `${name}.conf`);
  await Deno.writeTextFile(
    config,
    [
      `listening-ip=${SERVER}`,
      `listening-port=${port}`,
      `relay-ip=${SERVER}`,
      "realm=volary",
      ...how,
      "fingerprint",
      "no-cli",
      "no-dtls",
      `pidfile=${join(folder, `${name}.pid`)}`,
      `log-file=${join(folder, `${name}.log`)}`,
      "simple-log",
    ].join("\n"),
  );
  const [command, ...args] = [...internet.within("wan"), "turnserver", "-c", config];
  const process = new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  return process;
}

/** Trains through TURN over a transport; over TLS with names that the coordinator gives, else with one of the user's. */
async function train(transport: "udp" | "tcp" | "tls"): Promise<void> {
  const state = join(folder, transport), given = transport === "tls";
  const turn = given ? `turns:${SERVER}:${TLS_PORT}` : `turn:${SERVER}:${PORT}?transport=${transport}`;
  const variables = given ? { DENO_CERT: join(folder, "cert.pem") } : env, started: Running[] = [];
  const start = (where: string, name: string, args: readonly string[], more: Record<string, string> = {}) => {
    const running = volary(name, args, { within: internet.within(where), env: { ...variables, ...more } });
    started.push(running);
    return running;
  };
  const began = performance.now();
  try {
    const secret = join(folder, "secret"), more = given ? ["--turn", turn, "--turn-secret-file", secret] : [];
    const coordinator = ["up", "--port", "0", "--host", SERVER, "--state", state, ...more];
    if (given) {
      await Deno.writeTextFile(secret, "another secret\n", { mode: 0o600 });
      const wrong = start("wan", "up", coordinator);
      await remainingEvents(wrong);
      assertEquals((await wrong.status).code, 1);
      assertStringIncludes(wrong.said(), `refuses what was made from the secret in ${secret}: 401`);
      await Deno.writeTextFile(secret, `${SECRET}\n`);
    }
    const up = start("wan", "up", coordinator);
    const invite = String((await firstEvent(up, "up")).invite), rest = remainingEvents(up);
    const joins = (home: string, more: readonly string[], variables?: Record<string, string>) =>
      start(home, home, [
        ...["join", invite, "--device", "reference", "--name", home, "--key", join(state, `${home}.key`)],
        ...["--relay-only", ...more],
      ], variables);

    /** What `doctor` finds about a TURN server. */
    const doctor = async (turn: string, variables?: Record<string, string>) => {
      const running = start(
        "a",
        "doctor",
        ["doctor", "--turn", turn, "--key", join(state, "d.key")],
        variables,
      );
      const found = (await remainingEvents(running)).find(({ check }) => check === "turn");
      assertEquals((await running.status).code, 1);
      return { found: String(found?.found), advice: String(found?.advice) };
    };

    if (!given) {
      const refused = joins("a", ["--turn", turn], { VOLARY_TURN_PASSWORD: "wrong" });
      await remainingEvents(refused);
      assertEquals((await refused.status).code, 1);
      assertStringIncludes(refused.said(), "refuses: 401");
      const found = await doctor(turn, { VOLARY_TURN_PASSWORD: "wrong" });
      assertStringIncludes(found.found, "refuses: 401");
      assertStringIncludes(found.advice, "password is wrong");
    }
    if (transport === "tcp") {
      const blocked = joins("a", ["--turn", turn.replace("tcp", "udp")]);
      await remainingEvents(blocked);
      assertEquals((await blocked.status).code, 1);
      assertStringIncludes(blocked.said(), "UDP seems to be blocked");
      assertStringIncludes((await doctor(turn.replace("tcp", "udp"))).advice, "UDP seems to be blocked");
    }

    const workers = ["a", "b"].map((home) => joins(home, given ? [] : ["--turn", turn]));
    const heard = workers.map(remainingEvents);
    const run = start("wan", "run", ["run", join(folder, "small.toml"), "--state", state, "--workers", "2"]);
    const events = await remainingEvents(run), done = events.at(-1);
    assertEquals((await run.status).code, 0, `${run.said()}\n${workers.map((w) => w.said()).join("\n")}`);
    const weights = await Deno.readFile(join(String(done?.path), "model.safetensors"));
    assert(
      weights.length === expected.length && weights.every((byte, i) => byte === expected[i]),
      "the weights differ",
    );
    const told = started.map((running) => running.said()).join();
    assert(!told.includes(PASSWORD) && !told.includes(SECRET), "a password or the secret is told");
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
