/**
 * `volary join`: adds this machine's device to a mesh.
 *
 * @module
 */
import { duration, quantity, size } from "../coordinator/amounts.ts";
import { ENDED_IN_ORDER } from "../mesh/control/control.ts";
import type { LinkReport } from "../mesh/control/messages.ts";
import { joinMesh, TRANSPORTS } from "../worker/deno.ts";
import type { WorkerEvent } from "../worker/events.ts";
import type { RunningWorker } from "../worker/worker.ts";
import { onInterrupt } from "./interrupt.ts";
import { LENT_FLAGS, LENT_HELP, lentOf, lentText } from "./lent.ts";
import { Screen } from "./screen.ts";
import { checkTurn, serversOf, TURN_HELP } from "./turn.ts";
import { CommandError, printJson, readFlags, UsageError, type Verb } from "./verb.ts";

const DEVICES = ["auto", "webgpu", "reference"] as const;
/** Less does not hold what measuring a device needs. */
const LEAST_MEMORY = 256 * 2 ** 20;
/** Between two tries to reach a coordinator that went away. */
const AGAIN_MS = 3_000;
/** Between two progress lines where no line can be replaced. */
const CALM_MS = 10_000;
/** From a run's beginning until its links have been measured, and between two lines about them. */
const LINKS_FIRST_MS = 5_000, LINKS_AGAIN_MS = 60_000;

export const verb: Verb = {
  name: "join",
  summary: "add this machine's device to a mesh",
  help:
    `volary join INVITE [--device auto] [--name NAME] [--key FILE] [--memory SIZE] [--share 50%] [--bandwidth 20Mbit]
            [--until 18:00] [--stay] [--json]

Joins the mesh of an invite (\`volary up\` prints one) and works for it until the coordinator ends.
Ctrl-C leaves: a run under way is saved first. While a run is under way it shows what the device
does and, now and then, each link to another worker: the time there and back, and the bytes a second
that it carries.

  --device KIND   auto (WebGPU where there is an adapter), webgpu, or reference (plain arrays, slow,
                  needs nothing)
  --name NAME     unique in the mesh; default: this machine's name and four digits of the key
  --key FILE      this worker's own key, made where it is missing, readable by you only; by it the
                  coordinator knows the worker again. Default: in your configuration named-NAME.key,
                  or worker.key, worker-2.key, ... without --name
  --memory SIZE   what the mesh may use at most of the device, for instance 4GiB or 800MiB
${LENT_HELP}
  --transport WAY
                  to other workers: werift (default) or native (faster; start it by
                  \`deno task volary:native\`)
${TURN_HELP}
  --stay          wait for the coordinator and join again when it is gone
  --json          one JSON object a line on stdout for everything that happens

Exit code 0: the coordinator ended, or you left; 1: this worker was not let in, or lost the
coordinator.`,
  examples: [
    "join volary:AgEB...",
    "join volary:AgEB... --share 50% --memory 4GiB --until 18:00",
    "join volary:AgEB... --stay --json",
  ],

  async run(args) {
    const flags = readFlags(args, {
      boolean: ["stay", "json", "relay-only"],
      string: [
        "device",
        "name",
        "key",
        "memory",
        ...LENT_FLAGS,
        "transport",
        "stun",
        "turn",
        "turn-credentials",
      ],
      positional: ["INVITE"],
    });
    const [invite] = flags.positional, json = flags.has("json"), screen = new Screen();
    const servers = await serversOf(flags);
    await checkTurn(servers);
    const options = {
      invite,
      servers,
      device: oneOf("device", DEVICES, flags.text("device") ?? "auto"),
      transport: oneOf("transport", TRANSPORTS, flags.text("transport") ?? "werift"),
      name: flags.text("name"),
      key: flags.text("key"),
      memory: memoryOf(flags.text("memory")),
      lent: lentOf(flags, new Date()),
      onevent: reporter(screen, json),
    };
    const over = () => Date.now() >= (options.lent?.until ?? Infinity);
    let leaving = false, worker: RunningWorker | undefined;
    const left = Promise.withResolvers<void>();
    const leave = () => {
      leaving = true;
      screen.say("Leaving: what a run needs of this worker is saved first. Ctrl-C again ends at once.");
      Promise.resolve(worker?.leave("its user ended it")).then(left.resolve);
    };
    const stopListening = onInterrupt(leave);
    try {
      for (let met = false, lost = false;;) {
        try {
          worker = await joinMesh(options);
          met = true;
          const reason = await worker.ended;
          const ours = leaving || over();
          lost = !ours && reason !== ENDED_IN_ORDER;
          if (ours) screen.say("Left.");
          else if (!lost) screen.say("The coordinator ended.");
          else {
            screen.say(
              `The coordinator is gone: ${reason}.` +
                (flags.has("stay") ? "" : " With --stay this worker joins again when it is back."),
            );
          }
          if (json) printJson({ event: "ended", reason });
        } catch (error) {
          // Only one that was there before is waited for: a wrong address would be waited for without end.
          if (!(met && flags.has("stay") && (error as Error).name === "LinkError")) throw error;
        }
        if (leaving || over() || !flags.has("stay")) return lost ? 1 : 0;
        screen.replace("waiting for the coordinator ...");
        await Promise.race([left.promise, new Promise((resolve) => setTimeout(resolve, AGAIN_MS))]);
        if (leaving || over()) return 0;
      }
    } finally {
      stopListening();
      screen.end();
    }
  },
};

function oneOf<T extends string>(flag: string, choices: readonly T[], text: string): T {
  const choice = choices.find((each) => each === text);
  if (choice === undefined) throw new UsageError(`--${flag} takes ${choices.join(", ")}, not "${text}".`);
  return choice;
}

/** "4GiB", "800 MiB", "2G" in bytes. */
function memoryOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, amount, unit] = text.match(/^(\d+(?:\.\d+)?)\s*([GM])(?:i?B)?$/i) ?? [];
  if (amount === undefined) {
    throw new UsageError(`--memory takes a size such as 4GiB or 800MiB, not "${text}".`);
  }
  const bytes = Math.floor(Number(amount) * 2 ** (unit.toUpperCase() === "G" ? 30 : 20));
  if (bytes < LEAST_MEMORY) {
    throw new CommandError(`--memory ${text} is too little: a worker needs at least 256MiB.`);
  }
  return bytes;
}

/** Tells a worker's events: as lines of JSON, or as calm text. */
function reporter(screen: Screen, json: boolean): (event: WorkerEvent) => void {
  let shown = -Infinity, rounds = 0, began = 0, linksFrom = Infinity;
  return (event) => {
    if (json) {
      const { type, ...rest } = event;
      // A Map would print as nothing.
      printJson(
        "experts" in rest ? { event: type, ...rest, experts: [...rest.experts] } : { event: type, ...rest },
      );
    }
    switch (event.type) {
      case "profiled": {
        const { device, deviceName, flops, bandwidth, memory, maxBinding, lent } = event.profile;
        screen.say(
          `device   ${deviceName}${
            device === "webgpu" ? "" : " (plain arrays: slow; for WebGPU see `volary doctor`)"
          }\n` +
            `speed    ${quantity(flops, "FLOPS")}, memory at ${quantity(bandwidth, "B/s")}\n` +
            `limits   ${size(memory)} for the mesh, ${size(maxBinding)} for one tensor` +
            (lent ? `; lent: ${lentText(lent)}` : ""),
        );
        return;
      }
      case "waiting":
        return screen.say(`waiting  ${event.reason}`);
      case "joined":
        return screen.say(`joined   as ${event.id}; waiting for work`);
      case "assigned":
        [rounds, began] = [0, performance.now()];
        return screen.say(`holds    ${holdingText(event)}`);
      case "loading":
        return screen.replace(`loading ${size(event.done)} of ${size(event.total)}`);
      case "linked":
        linksFrom = performance.now() + LINKS_FIRST_MS;
        return screen.say(event.peers.length > 0 ? `linked   to ${event.peers.join(", ")}` : "ready");
      case "round": {
        rounds++;
        const { busy, elapsed, sent, links = [] } = event.report;
        const share = `${Math.round(100 * Math.min(1, elapsed > 0 ? busy / elapsed : 0))}%`.padStart(4);
        const line = `round ${event.round}  device busy ${share}  sent ${size(sent)}  ` +
          `${rounds} ${rounds === 1 ? "round" : "rounds"} in ${duration((performance.now() - began) / 1000)}`;
        if (performance.now() >= linksFrom && links.length > 0) {
          linksFrom = performance.now() + LINKS_AGAIN_MS;
          screen.say(`links    ${links.map(linkText).join("; ")}`);
        }
        if (screen.live) return screen.replace(line);
        if (performance.now() - shown < CALM_MS) return;
        shown = performance.now();
        return screen.say(line);
      }
      case "stopped":
        return screen.say(`stopped  ${event.reason.replace(/\.$/, "")}; waiting for work`);
      case "failed":
        return screen.say(`failed   ${event.reason}`);
    }
  };
}

/** A link as its own worker measured it in the last round. */
function linkText({ peer, roundTrip, goodput }: LinkReport): string {
  const road = [
    ...(Number.isFinite(roundTrip) ? [`${roundTrip!.toFixed(1)} ms there and back`] : []),
    ...(goodput > 0 ? [`${quantity(goodput, "B/s")} to it`] : []),
  ];
  return `${peer} ${road.join(", ") || "idle"}`;
}

function holdingText({ layers, experts }: Extract<WorkerEvent, { type: "assigned" }>): string {
  const parts = layers.map(([from, to]) => to - from === 1 ? `layer ${from}` : `layers ${from}-${to - 1}`);
  let count = 0;
  for (const own of experts.values()) count += own.length;
  if (count > 0) parts.push(`${count} experts in ${experts.size} ${experts.size === 1 ? "layer" : "layers"}`);
  return parts.join(", ") || "nothing";
}
