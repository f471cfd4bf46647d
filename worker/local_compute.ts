/**
 * {@linkcode Compute} on a device of this thread.
 *
 * Calls may overlap wherever one awaits (a peer's expert rows are served while an own pass waits for rows): every call has
 * its own memory, and gradients of one tensor are only touched by calls that the plan puts in order.
 *
 * @module
 */
import { add, type Device, type View } from "../kernels/mod.ts";
import type { Losses, Profile } from "../mesh/control/messages.ts";
import { ownMicrobatches, type Slice } from "../mesh/plan.ts";
import type { HostRequest } from "../model/layers/expert_bank.ts";
import type { RowExchanger } from "../model/layers/expert_exchange.ts";
import type { GradientSize } from "../model/layers/optimizer.ts";
import type { Stage } from "../model/layers/stage.ts";
import { BusyClock } from "./busy_clock.ts";
import { type Duty, DutyClock } from "./duty_clock.ts";
import type { Compute, DevicePart, Exchanger, ForwardInput, HeldTensor, StepDecision } from "./compute.ts";
import { measureDevice } from "./device_profile.ts";
import type { KnownSpeeds } from "./known_speeds.ts";
import { type Loaded, loadSlice } from "./loaded_slice.ts";

/** The tensor that a tied head shares. */
const EMBEDDING = "model.embed_tokens.weight";

/** What a {@linkcode LocalCompute} is given. */
export interface LocalComputeOptions {
  /** Closed by `close`. */
  readonly device: Device;
  /** Reaches experts on other workers. */
  readonly exchanger: Exchanger;
  /** Milliseconds from some fixed point. */
  readonly now: () => number;
  /** What the mesh has of the device's time, and how to let time pass; absent: all of it. */
  readonly duty?: Pick<Duty, "share" | "rest">;
  /** Bytes that the coordinator may plan for on this device. */
  readonly memory: number;
  /** Speeds that need not be measured; absent: the device is. */
  readonly speeds?: KnownSpeeds;
}

/** Computes on a device of this thread. */
export class LocalCompute implements Compute {
  readonly #device: Device;
  readonly #options: LocalComputeOptions;
  readonly #busy: BusyClock;
  readonly #exchange: RowExchanger;
  #loaded: Loaded | undefined;
  /** Whether the round so far was an evaluation. */
  #evaluating = false;
  /** Work was started whose end nobody has waited for. */
  #running = false;
  /** What is read to wait for it. */
  #word: View | undefined;

  constructor(options: LocalComputeOptions) {
    this.#options = options;
    this.#device = options.device;
    const { duty, now } = options;
    this.#busy = duty === undefined
      ? new BusyClock(now)
      : new DutyClock({ ...duty, now, settled: () => this.#settled() });
    this.#exchange = (exchange) => this.#busy.outside(() => options.exchanger(exchange));
  }

  async profile(): Promise<Profile> {
    const { info } = this.#device, { kind, name, maxBinding } = info, { speeds } = this.#options;
    let speed = speeds?.find(info);
    if (speed === undefined) {
      speed = await this.#busy.during(() => measureDevice(this.#device, this.#options.now));
      speeds?.keep(info, speed);
    }
    return { device: kind, deviceName: name, ...speed, memory: this.#options.memory, maxBinding };
  }

  load(slice: Slice): Promise<HeldTensor[]> {
    return this.#busy.during(() => Promise.resolve(this.#load(slice)));
  }

  #load(slice: Slice): HeldTensor[] {
    this.#loaded?.device.close();
    this.#loaded = undefined;
    this.#evaluating = false;
    const loaded = this.#loaded = loadSlice(this.#device, slice, this.#exchange);
    return loaded.parameters.tensors.map(({ spec: { name, shape, order }, copy }) => ({
      name,
      shape,
      order,
      copy,
    }));
  }

  get #now(): Loaded {
    if (this.#loaded === undefined) throw new Error("No slice of a plan is loaded");
    return this.#loaded;
  }

  #stageAt(index: number): Stage {
    const stage = this.#now.stages.get(index);
    if (stage === undefined) throw new Error(`Stage ${index} is not this worker's`);
    return stage;
  }

  // Asynchronous like all of Compute: what goes wrong is a rejection.
  // deno-lint-ignore require-await
  async put(
    tensor: string,
    part: DevicePart,
    start: number,
    words: Float32Array<ArrayBuffer>,
  ): Promise<void> {
    if (part === "u") this.#now.outer.momentum(tensor).set(words, start);
    else this.#now.parameters.put(tensor, part, start, words);
  }

  // deno-lint-ignore require-await
  async get(
    tensor: string,
    part: DevicePart,
    start: number,
    length: number,
  ): Promise<Float32Array<ArrayBuffer>> {
    if (part === "u") return this.#now.outer.momentum(tensor).slice(start, start + length);
    return this.#busy.during(() => this.#now.parameters.get(tensor, part, start, length));
  }

  #upload(bytes: ArrayBuffer | undefined, label: string): View | undefined {
    if (bytes === undefined) return undefined;
    const view = this.#now.device.allocate(bytes.byteLength / 4, label);
    this.#now.device.write(view, new Float32Array(bytes));
    return view;
  }

  /** Takes a span back to the host and releases it; with none only starts the work. */
  async #download(device: Device, view: View | undefined): Promise<ArrayBuffer | undefined> {
    if (view === undefined) {
      this.#start(device);
      return undefined;
    }
    const [bytes] = await device.read([view]);
    device.release(view);
    return bytes;
  }

  /** Starts what was given to the device, without waiting for its end. */
  #start(device: Device): void {
    device.flush();
    this.#running = true;
  }

  /** Resolves at that end: a word that is read comes behind it. */
  async #settled(): Promise<void> {
    if (!this.#running) return;
    this.#running = false;
    this.#word ??= this.#device.allocate(1, "end of a piece of work");
    await this.#device.read([this.#word]);
  }

  forward(input: ForwardInput): Promise<ArrayBuffer | undefined> {
    return this.#busy.during(async () => {
      const { device, notes, slice } = this.#now;
      const { stage, microbatch, mode, ids, labels, validLabels } = input, own = ownMicrobatches(slice);
      if (mode === "evaluate") this.#evaluating = true;
      const passed = await this.#stageAt(stage).forward({
        ...slice.shape,
        // Over what the router's losses are averaged: the whole round, or what the pipeline trains on for itself.
        ...(slice.local ? { microbatches: own.to - own.from } : {}),
        microbatch,
        mode,
        ids,
        labels,
        validLabels,
        activation: this.#upload(input.activation, "received activation"),
      }, (layer) => this.#coming(layer));
      notes.push({ stage, notes: passed.notes });
      return await this.#download(device, passed.activation);
    });
  }

  /** Resolves when the weights of a layer have come back from the replica that owns them; undefined where they are here. */
  #coming(layer: number): Promise<void> | undefined {
    const coming = this.#now.replicas.coming(layer);
    return coming && this.#busy.outside(() => coming);
  }

  backward(stage: number, microbatch: number, gradient?: ArrayBuffer): Promise<ArrayBuffer | undefined> {
    return this.#busy.during(async () => {
      const { device } = this.#now;
      const received = this.#upload(gradient, "received gradient"), left = this.#left(stage, microbatch);
      return await this.#download(device, await this.#stageAt(stage).backward(microbatch, received, left));
    });
  }

  backwardInput(stage: number, microbatch: number, gradient?: ArrayBuffer): Promise<ArrayBuffer | undefined> {
    return this.#busy.during(async () => {
      const { device } = this.#now;
      const received = this.#upload(gradient, "received gradient");
      return await this.#download(device, await this.#stageAt(stage).backwardInput(microbatch, received));
    });
  }

  backwardWeight(stage: number, microbatch: number): Promise<void> {
    // deno-lint-ignore require-await
    return this.#busy.during(async () => {
      this.#stageAt(stage).backwardWeight(microbatch, this.#left(stage, microbatch));
      this.#start(this.#now.device);
    });
  }

  /** Who waits for the gradients of a layer hears when the last pass over it has been given to the device. */
  #left(stage: number, microbatch: number): ((layer: number) => void) | undefined {
    const { slice, replicas } = this.#now;
    if (microbatch !== ownMicrobatches(slice).to - 1) return undefined;
    return (layer) => replicas.left(stage, layer);
  }

  host(request: HostRequest): Promise<ArrayBuffer> {
    return this.#busy.during(async () => {
      if (request.mode === "evaluate") this.#evaluating = true;
      const coming = this.#coming(request.layer);
      if (coming) await coming;
      return await this.#now.bank.host(request);
    });
  }

  hostWeights(layer: number, microbatch: number): Promise<void> {
    // deno-lint-ignore require-await
    return this.#busy.during(async () => {
      this.#now.bank.hostWeights(layer, microbatch);
      this.#start(this.#now.device);
    });
  }

  takeTiedGradient(): Promise<Float32Array<ArrayBuffer>> {
    return this.#busy.during(async () => {
      const { device, parameters } = this.#now;
      const words = await parameters.get(EMBEDDING, "gradient");
      device.clear(parameters.view(EMBEDDING, "gradient"));
      return words;
    });
  }

  // deno-lint-ignore require-await
  async addTiedGradient(words: Float32Array<ArrayBuffer>): Promise<void> {
    const { device, parameters } = this.#now;
    const y = parameters.view(EMBEDDING, "gradient");
    if (words.length !== y.length) {
      throw new RangeError(`The tied gradient has ${words.length} values and should have ${y.length}`);
    }
    const x = device.allocate(words.length, "received tied gradient");
    device.write(x, words);
    device.run(add, { x, y }, { length: words.length });
    device.release(x);
  }

  // deno-lint-ignore require-await
  async fold(): Promise<void> {
    const { optimizer, shares } = this.#now;
    optimizer.joinTied();
    shares.fold();
  }

  read: Compute["read"] = async (part, tensors, after) =>
    await (after ? this.#now.replicas.readAfter(after, tensors) : this.#now.replicas.read(part, tensors));

  // deno-lint-ignore require-await
  expect: Compute["expect"] = async (tensors) => this.#now.replicas.expect(tensors);

  // deno-lint-ignore require-await
  write: Compute["write"] = async (tensors, words) => this.#now.replicas.write(tensors, words);

  addGradients: Compute["addGradients"] = (tensors, before, behind) =>
    // deno-lint-ignore require-await
    this.#busy.during(async () => {
      this.#now.replicas.add(tensors, before, behind);
      this.#start(this.#now.device);
    });

  beginLocal: Compute["beginLocal"] = () => this.#now.outer.begin();

  deltas: Compute["deltas"] = (tensors) => this.#busy.during(() => this.#now.outer.deltas(tensors));

  outerStep: Compute["outerStep"] = (...args) =>
    // deno-lint-ignore require-await
    this.#busy.during(async () => {
      this.#now.outer.step(...args);
      this.#start(this.#now.device);
    });

  // deno-lint-ignore require-await
  adopt: Compute["adopt"] = async (tensors, words) => this.#now.outer.adopt(tensors, words);

  /** One entry of losses for each pass of an own stage, by microbatch, then stage. */
  finish(): Promise<{ losses: Losses[]; tensors: GradientSize[] }> {
    return this.#busy.during(async () => {
      const { device, slice, optimizer, notes, shares } = this.#now;
      const left = notes.splice(0).sort((a, b) =>
        a.notes.microbatch - b.notes.microbatch || a.stage - b.stage
      );
      const measured: View[] = [];
      if (!this.#evaluating) {
        if (!shares.begun) optimizer.joinTied();
        measured.push(...optimizer.measure());
      }
      const evaluated = this.#evaluating;
      this.#evaluating = false;
      const buffers = await device.read([...left.map(({ notes }) => notes.view), ...measured]);
      const losses = left.map(({ stage, notes }, i) => {
        device.release(notes.view);
        const { rows, ...losses } = this.#stageAt(stage).losses(notes, buffers[i]);
        return {
          layer: slice.stages[stage].from,
          ...losses,
          ...(evaluated && rows.length > 0 ? { sequences: sumsOf(rows, slice.shape.sequence) } : {}),
        };
      });
      return { losses, tensors: measured.length > 0 ? optimizer.sizes(buffers.slice(left.length)) : [] };
    });
  }

  // deno-lint-ignore require-await
  async balance(loads: readonly (readonly number[])[]): Promise<void> {
    const { slice, stages } = this.#now;
    for (const [index, stage] of stages) {
      const { from, to } = slice.stages[index];
      stage.balance(loads.slice(from, to));
    }
  }

  step(decision: StepDecision): Promise<void> {
    // deno-lint-ignore require-await
    return this.#busy.during(async () => {
      const { device, parameters, optimizer, shares } = this.#now;
      shares.reset();
      if (decision.commit) optimizer.step(decision, decision.weightDecay);
      else parameters.clearGradients();
      this.#start(device);
    });
  }

  busy(): Promise<number> {
    return Promise.resolve(this.#busy.take());
  }

  close(): void {
    this.#loaded?.device.close();
    this.#loaded = undefined;
    this.#device.close();
  }
}

/** Sums of so many words each. */
function sumsOf(words: Float32Array, length: number): number[] {
  return Array.from(
    { length: words.length / length },
    (_, i) => words.subarray(i * length, (i + 1) * length).reduce((sum, word) => sum + word, 0),
  );
}
