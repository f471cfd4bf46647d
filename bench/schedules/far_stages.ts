/**
 * How busy does a pipeline keep its stages over a real road? Two stages joined by WebRTC through a relay that adds 40 ms of
 * round trip, each with a device that takes a fixed time for a pass, so that nothing but the order of passes and the links
 * is measured. Counted is the slower stage: the time that its passes take, as a share of the whole step, with the vote
 * and the way of the first and last microbatch in it. Wanted: 0.85. `--schedule` measures the cases of one schedule.
 *
 * @module
 */
import type { RunEvent } from "../../coordinator/events.ts";
import { table } from "../../coordinator/amounts.ts";
import type { ScheduleName } from "../../coordinator/schedule/schedules.ts";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import type { Transport } from "../../mesh/runtime.ts";
import { weriftTransport } from "../../mesh/transports/werift_transport.ts";
import type { Compute } from "../../worker/compute.ts";
import { openComputeThread } from "../../worker/compute_client.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import { inTemporaryFolder } from "../harness/folders.ts";
import { median } from "../harness/statistics.ts";
import { Relay } from "../links/relay.ts";
import { meshInProcess } from "../mesh/in_process.ts";

/** One line for the list of benches. */
export const title = "two stages 40 ms apart: how busy 1F1B and eager 1F1B keep the slower one";

/** Round trip of the road, ms; steps that count behind those that do not; microbatches of a step. */
const ROUND_TRIP = 40, STEPS = 3, WARM = 1, MICROBATCHES = 48;
/** A microbatch on the slower stage, forward and backward, ms: a third and two thirds. */
const SLOWER = 100;
/** What a pass makes up for at most, ms. */
const MOST_LATE = 3;
/** Least share of a step in which the slower stage works. */
const GOAL = 0.85;

/** A case: the time of a microbatch on each stage, ms. */
interface Case {
  readonly stages: readonly [number, number];
  readonly schedule: ScheduleName;
  /** Tokens of a microbatch, which make an activation of 64 bytes each. */
  readonly sequence: number;
}

const CASES: readonly Case[] = [
  { stages: [SLOWER, 80], schedule: "1f1b", sequence: 64 },
  { stages: [80, SLOWER], schedule: "1f1b", sequence: 64 },
  { stages: [SLOWER, 80], schedule: "1f1b", sequence: 256 },
  { stages: [80, SLOWER], schedule: "1f1b", sequence: 256 },
  { stages: [SLOWER, 80], schedule: "eager-1f1b", sequence: 256 },
  { stages: [80, SLOWER], schedule: "eager-1f1b", sequence: 256 },
];

const recipe = (name: string, { schedule, sequence }: Case) => `
name = "${name}"
[model]
hidden_size = 16
intermediate_size = 16
num_hidden_layers = 2
num_attention_heads = 1
num_key_value_heads = 1
vocab_size = 259
[data]
train = ["text"]
validation = ["text"]
tokenizer = "bytes"
[mesh]
stages = 2
schedule = "${schedule}"
[[phase]]
kind = "train"
steps = ${WARM + STEPS}
batch = ${MICROBATCHES}
microbatches = ${MICROBATCHES}
sequence = ${sequence}
learning_rate = 1e-3
evaluate_batches = 0
`;

/** The same transport with its roads through the relay. Both ends open their connections in the same order. */
function far(transport: Transport, relay: Relay): Transport {
  let opened = 0;
  return {
    kind: transport.kind,
    open(signal, initiator) {
      const connection = String(opened++);
      return transport.open({
        send: (body) => void relay.pass(connection, body).then((passed) => signal.send(passed)),
        get onbody() {
          return signal.onbody;
        },
        set onbody(next) {
          signal.onbody = next;
        },
      }, initiator);
    },
  };
}

/**
 * A device whose passes take a fixed time, one after the other. Timers fire a millisecond or two late, which the next pass
 * makes up for: on average a pass takes its time.
 */
function paced(compute: Compute, flops: number, milliseconds: number): Compute {
  let last: Promise<unknown> = Promise.resolve(), late = 0;
  const times: Partial<Record<string | symbol, number>> = {
    forward: milliseconds / 3,
    backward: 2 * milliseconds / 3,
  };
  return new Proxy(compute, {
    get(target, key) {
      if (key === "profile") {
        return async () => ({ ...await target.profile(), flops, bandwidth: flops, memory: 2 ** 32 });
      }
      const value = Reflect.get(target, key), time = times[key];
      if (typeof value !== "function" || time === undefined) {
        return typeof value === "function" ? value.bind(target) : value;
      }
      return (...args: unknown[]) => {
        const pass = last.then(async () => {
          const end = performance.now() + time - late, made = await value.apply(target, args);
          await new Promise((resolve) => setTimeout(resolve, Math.max(0, end - performance.now())));
          late = Math.min(MOST_LATE, Math.max(0, performance.now() - end));
          return made;
        });
        last = pass.catch(() => {});
        return pass;
      };
    },
  });
}

/** Seconds of the steps that count. */
async function measure(one: Case, folder: string): Promise<number[]> {
  const { stages } = one,
    runtime = denoRuntime(),
    relay = new Relay({ roundTrip: ROUND_TRIP, loss: 0, seed: 1 });
  const mesh = await meshInProcess(stages.map((milliseconds, w) => ({
    transport: far(weriftTransport({ clock: runtime, loopback: true }), relay),
    compute: async (exchanger) => {
      // In a thread, as every worker's: a pass does not hold up what leaves for the other stage.
      const thread = await openComputeThread({ device: "reference", memory: 2 ** 32 }, exchanger);
      return paced(thread, 1e9 - w, milliseconds); // who is first has the first stage
    },
  })));
  const seconds: number[] = [];
  try {
    const outcome = await mesh.coordinator.run({
      recipe: recipe(`far-${crypto.randomUUID()}`, one),
      resolve: (path) => `${folder}/${path}`,
      runs: folder,
      resume: false,
      resumeCommand: "",
    }, {
      workers: stages.length,
      tell: (event: RunEvent | { readonly event: "waiting" }) => {
        if (event.event === "step" && event.step > WARM) seconds.push(event.seconds);
      },
    });
    if (outcome.event !== "done") throw new Error(`The run ended with ${JSON.stringify(outcome)}`);
  } finally {
    await mesh.close();
    relay.close();
  }
  return seconds;
}

/** Flags besides --json. */
export const flags: BenchFlags = {
  choices: { schedule: [...new Set(CASES.map(({ schedule }) => schedule))] },
};

/** Measures and prints; false where a case misses the goal. */
export async function run({ flags, record, print }: BenchOptions): Promise<boolean> {
  const only = flags.text("schedule");
  return await inTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text`, "a road of forty milliseconds and a half\n".repeat(2_000));
    let good = true;
    const rows: string[][] = [["stages", "activation", "schedule", "step", "slower stage busy"]];
    for (const one of CASES.filter(({ schedule }) => only === undefined || schedule === only)) {
      const seconds = median(await measure(one, folder)), { stages, schedule, sequence } = one;
      const busy = MICROBATCHES * Math.max(...stages) / 1000 / seconds;
      good &&= busy >= GOAL;
      record({ stages, schedule, activationBytes: 64 * sequence, seconds, busy, goal: GOAL });
      rows.push([
        `${stages[0]} + ${stages[1]} ms a microbatch`,
        `${sequence / 16} KiB`,
        schedule,
        `${seconds.toFixed(3)} s`,
        `${(100 * busy).toFixed(1)} % (at least ${100 * GOAL})`,
      ]);
    }
    print(...table(rows));
    return good;
  });
}
