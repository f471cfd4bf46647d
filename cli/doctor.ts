/**
 * `volary doctor`: is this machine able to take part? A line for each thing: ok, or what is wrong and what to do.
 *
 * @module
 */
import { quantity, size } from "../coordinator/amounts.ts";
import { type Device, matmulNT, openDevice, referenceDevice } from "../kernels/mod.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { holdKey } from "../mesh/identity/deno_key_file.ts";
import { meetCoordinator } from "../mesh/control/handshake_control.ts";
import { fingerprint, newIdentity } from "../mesh/identity/identity.ts";
import { parseInvite } from "../mesh/identity/invite.ts";
import type { Link } from "../mesh/link/link.ts";
import { nativeTransport } from "../mesh/transports/native_transport.ts";
import { localChannels, localHeader, localLinks } from "../mesh/transports/local_links.ts";
import { weriftTransport } from "../mesh/transports/werift_transport.ts";
import { ownKey } from "../worker/deno.ts";
import { measureDevice } from "../worker/device_profile.ts";
import { reach } from "../worker/join.ts";
import { quietDriver } from "./driver.ts";
import { natState, serversOf, TURN_HELP, turnState } from "./turn.ts";
import { printJson, readFlags, say, UsageError, type Verb } from "./verb.ts";

/** The Deno that this program is tried with. */
const TRIED = "2.9";
/** Bytes that are sent over the loopback link. */
const SENT = 4 << 20;

/** What was found; `advice` says what to do where it is not ok, or where to look further. */
interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly found: string;
  readonly advice?: string;
}

export const verb: Verb = {
  name: "doctor",
  summary: "check this machine: device, permissions, connections",
  help: `volary doctor [INVITE] [--key FILE] [--transport werift] [--json]

Checks Deno, its permissions, this worker's key, the device (with a calculation whose result is
known), a link inside this machine, with --stun what kind of NAT there is, with --turn whether that
server gives addresses, and with an invite whether its coordinator can be reached, is the one that
made the invite, and agrees on the time, and how far away it is: the time there and back, and how
much comes from it. A line for each: ok, or what to do. How far away other workers are shows while
they work together: in the lines of \`volary join\`, and for the coordinator's owner in
\`volary status\` or, before a run, \`volary plan RECIPE.toml --measure\`.

  --key FILE      the key that \`volary join\` would be given
  --transport WAY
                  of the link inside this machine: werift, or native (start it by
                  \`deno task volary:native\`)
${TURN_HELP}
  --json          one JSON object for each line on stdout

Exit code 0: everything is ok; 1: something is not.`,
  examples: ["doctor", "doctor volary:AgEB..."],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["json", "relay-only"],
      string: ["key", "transport", "stun", "turn", "turn-credentials"],
      positional: ["INVITE?"],
    });
    const servers = await serversOf(flags), transport = flags.text("transport") ?? "werift";
    if (transport !== "werift" && transport !== "native") {
      throw new UsageError(`--transport takes werift or native, not "${transport}".`);
    }
    const [invite] = flags.positional;
    const checks: [name: string, check: () => Promise<Omit<Finding, "check">>][] = [
      ["deno", deno],
      ["permissions", permissions],
      ["key", () => key(flags.text("key"))],
      ["device", device],
      ["webrtc", () => webrtc(transport)],
      ...(servers?.stun === undefined ? [] : [["nat", () => natState(servers)] as [string, typeof deno]]),
      ...(servers?.turn === undefined ? [] : [["turn", () => turnState(servers)] as [string, typeof deno]]),
      ...(invite === undefined ? [] : [
        ["coordinator", () => coordinator(invite)] as [string, typeof deno],
        ["road", () => road(invite)] as [string, typeof deno],
      ]),
    ];
    const wrong = new Set<string>();
    for (const [check, look] of checks) {
      // To a coordinator that cannot be met there is no road to measure.
      if (check === "road" && wrong.has("coordinator")) continue;
      let finding: Finding;
      try {
        finding = { check, ...await look() };
      } catch (error) {
        finding = { check, ok: false, found: error instanceof Error ? error.message : String(error) };
      }
      if (!finding.ok) wrong.add(check);
      if (flags.has("json")) printJson({ event: "finding", ...finding });
      else {
        say(`${finding.ok ? "ok     " : "problem"}  ${check.padEnd(11)}  ${finding.found}`);
        if (finding.advice) say(`${" ".repeat(22)}${finding.advice}`);
      }
    }
    return wrong.size === 0 ? 0 : 1;
  },
};

function deno(): Promise<Omit<Finding, "check">> {
  const { deno: version } = Deno.version, tried = version.startsWith(`${TRIED}.`);
  const found = `Deno ${version} on ${Deno.build.os} ${Deno.build.arch}`;
  if (tried) return Promise.resolve({ ok: true, found });
  const advice = `Volary is tried with Deno ${TRIED}: npx -y deno@${TRIED} task volary doctor`;
  return Promise.resolve({ ok: false, found, advice });
}

async function permissions(): Promise<Omit<Finding, "check">> {
  const wanted: Deno.PermissionDescriptor[] = [
    { name: "net" },
    { name: "read" },
    { name: "write" },
    { name: "env" },
    { name: "sys", kind: "networkInterfaces" },
    { name: "sys", kind: "hostname" },
  ];
  const missing: string[] = [];
  for (const one of wanted) {
    const { state } = await Deno.permissions.query(one);
    if (state !== "granted") missing.push(one.name === "sys" ? `sys=${one.kind}` : one.name);
  }
  if (missing.length === 0) return { ok: true, found: "net, read, write, env, sys" };
  const advice = "Start it by `deno task volary`, which grants what it needs.";
  return { ok: false, found: `without ${missing.join(", ")}`, advice };
}

async function device(): Promise<Omit<Finding, "check">> {
  quietDriver();
  const device = await openDevice(), reference = referenceDevice();
  try {
    const { info } = device;
    const { flops, bandwidth } = await measureDevice(device, () => performance.now());
    const found =
      `${info.name} (${info.kind}), ${quantity(flops, "FLOPS")}, ${quantity(bandwidth, "B/s")}, largest ` +
      "binding " +
      size(info.maxBinding);
    if (!await sameProduct(device, reference)) {
      const advice =
        "A matrix product differs from the right one: update the driver, or join with --device reference.";
      return { ok: false, found, advice };
    }
    if (info.kind === "webgpu") return { ok: true, found };
    const advice = Deno.build.os === "linux"
      ? "There is no WebGPU adapter; it works, slowly. A software adapter: apt-get install -y mesa-vulkan-drivers"
      : "There is no WebGPU adapter; it works, slowly. Install or update the GPU's driver.";
    return { ok: false, found, advice };
  } finally {
    device.close();
    reference.close();
  }
}

/** A product of 7 x 33 by 5 x 33 numbers, bit for bit as on plain arrays. */
async function sameProduct(...devices: Device[]): Promise<boolean> {
  const [m, n, k] = [7, 5, 33];
  const results = await Promise.all(devices.map(async (device) => {
    const a = device.allocate(m * k, "a"), b = device.allocate(n * k, "b"), c = device.allocate(m * n, "c");
    device.write(a, Float32Array.from({ length: m * k }, (_, i) => Math.sin(i)));
    device.write(b, Float32Array.from({ length: n * k }, (_, i) => Math.cos(i)));
    device.run(matmulNT, { a, b, c }, { m, n, k, accumulate: 0 });
    const [bytes] = await device.read([c]);
    return new Uint32Array(bytes).join();
  }));
  return results.every((result) => result === results[0]);
}

/** Two ends in this process, over the loopback interface. */
async function webrtc(kind: "werift" | "native"): Promise<Omit<Finding, "check">> {
  const clock = denoRuntime(), began = clock.now();
  const transport = (kind === "native" ? nativeTransport : weriftTransport)({ clock, loopback: true });
  const channels = await localChannels([transport, transport]);
  const [from, to] = await localLinks(channels, clock, {
    pipeline: 1 << 20,
    request: 1 << 10,
    reply: 1 << 10,
  });
  const opened = clock.now() - began;
  const speed = await send(from, to, () => clock.now());
  await Promise.all([from.close(), to.close()]);
  return {
    ok: true,
    found: `${transport.kind}, opens in ${opened.toFixed(0)} ms, ${quantity(speed, "B/s")} inside this ` +
      "machine",
  };
}

/** Bytes a second of frames from one end to the other. */
async function send(from: Link, to: Link, now: () => number): Promise<number> {
  const bytes = new Uint8Array(1 << 20), began = now();
  let arrived = 0;
  const done = new Promise<void>((resolve) => {
    to.onframe = (_lane, _header, payload, consumed) => {
      consumed();
      if ((arrived += payload.length) >= SENT) resolve();
    };
  });
  for (let sequence = 0; sequence * bytes.length < SENT; sequence++) {
    await from.send("pipeline", localHeader(sequence), [bytes]);
  }
  await done;
  return SENT / ((now() - began) / 1000);
}

/** The key that `volary join` would use. */
async function key(path: string | undefined): Promise<Omit<Finding, "check">> {
  const runtime = denoRuntime();
  const held = path === undefined ? await ownKey(runtime) : await holdKey(path, runtime);
  held.release();
  return { ok: true, found: `${fingerprint(held.identity.publicKey)} in ${held.path}` };
}

/** As far as a worker goes before it shows its invite: nothing is used up. */
async function coordinator(line: string): Promise<Omit<Finding, "check">> {
  const clock = denoRuntime(), invite = parseInvite(line), began = clock.now();
  const channel = await reach(invite, { clock, socket: (url) => new WebSocket(url) });
  try {
    await meetCoordinator(channel, invite, { clock, chance: clock, identity: await newIdentity() });
  } finally {
    channel.close("only looked");
  }
  const took = clock.now() - began, { expires } = invite;
  const found = `${new URL(invite.address).host} (${fingerprint(invite.coordinator)}) answers in ` +
    `${took.toFixed(0)} ms`;
  if (expires === undefined) return { ok: true, found: `${found}; the invite does not expire` };
  const until = `${new Date(expires).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  if (expires > clock.wall()) return { ok: true, found: `${found}; the invite is good until ${until}` };
  const advice = "Ask for a new one (volary invite), unless this machine was admitted before.";
  return { ok: false, found: `${found}; the invite expired on ${until}`, advice };
}

/** Small answers of which the quickest tells the way there and back, and the time in which large ones are counted, ms. */
const LOOKS = 5, COUNTED_MS = 1_000;

/** Where the roads between workers are seen: only two workers that are linked can measure theirs. */
const OTHER_ROADS =
  "The roads to other workers are measured while they work: `volary join` shows its own, and the coordinator's owner sees " +
  "all of them by `volary status`, before a run by `volary plan RECIPE.toml --measure`.";

/** How far away the coordinator is, by the page that it gives to browsers: what anybody may ask for. */
async function road(line: string): Promise<Omit<Finding, "check">> {
  const { address } = parseInvite(line), clock = denoRuntime();
  const page = new URL("/", address.replace(/^ws/, "http"));
  const get = async (path: string) => {
    const began = clock.now(), response = await fetch(new URL(path, page));
    const { byteLength } = await response.arrayBuffer();
    return { bytes: response.ok ? byteLength : 0, ms: clock.now() - began };
  };
  await get("/"); // opens the connection
  let shortest = Infinity;
  for (let i = 0; i < LOOKS; i++) shortest = Math.min(shortest, (await get("/")).ms);
  const found = `${page.host}: ${shortest.toFixed(1)} ms there and back`;
  if ((await get("/page.js")).bytes === 0) return { ok: true, found, advice: OTHER_ROADS }; // put together when it is first asked for
  let bytes = 0, ms = 0;
  while (ms < COUNTED_MS) {
    const more = await get("/page.js");
    bytes += more.bytes;
    ms += Math.max(more.ms, 1);
  }
  return { ok: true, found: `${found}, ${quantity(bytes / ms * 1_000, "B/s")} from it`, advice: OTHER_ROADS };
}
