/**
 * {@linkcode Compute} on a device of this thread.
 *
 * Calls may overlap wherever one awaits (a peer's expert rows are served while an own pass waits for rows): every call has
 * its own memory, and gradients of one tensor are only touched by calls that the plan puts in order.
 *
 * @module
 */
import { add, type Device } from "../kernels/mod.ts";
import type { Profile } from "../mesh/control/messages.ts";
import { ownMicrobatches, type Slice } from "../mesh/plan.ts";
import type { HostRequest } from "../model/layers/expert_bank.ts";
import type { RowExchanger } from "../model/layers/expert_exchange.ts";
import type { Stage } from "../model/layers/stage.ts";
import type { BusyClock } from "./busy_clock.ts";
import type { Compute, DevicePart, Exchanger, ForwardInput, HeldTensor, StepDecision } from "./compute.ts";
import { measureDevice } from "./device_profile.ts";
import { DeviceWork } from "./device_work.ts";
import type { Duty } from "./duty_clock.ts";
import type { KnownSpeeds } from "./known_speeds.ts";
import { type Loaded, loadSlice } from "./loaded_slice.ts";
import { type RoundResults, roundResults } from "./round_results.ts";

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
  readonly #work: DeviceWork;
  /** Its clock. */
  readonly #busy: BusyClock;
  readonly #exchange: RowExchanger;
  #loaded: Loaded | undefined;
  /** Whether the round so far was an evaluation. */
  #evaluating = false;

  constructor(options: LocalComputeOptions) {
    this.#options = options;
    this.#device = options.device;
    this.#work = new DeviceWork(options.device, options);
    this.#busy = this.#work.clock;
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
        activation: this.#work.upload(device, input.activation, "received activation"),
      }, (layer) => this.#coming(layer));
      notes.push({ stage, notes: passed.notes });
      return await this.#work.download(device, passed.activation);
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
      const received = this.#work.upload(device, gradient, "received gradient"),
        left = this.#left(stage, microbatch);
      return await this.#work.download(
        device,
        await this.#stageAt(stage).backward(microbatch, received, left),
      );
    });
  }

  backwardInput(stage: number, microbatch: number, gradient?: ArrayBuffer): Promise<ArrayBuffer | undefined> {
    return this.#busy.during(async () => {
      const { device } = this.#now;
      const received = this.#work.upload(device, gradient, "received gradient");
      return await this.#work.download(
        device,
        await this.#stageAt(stage).backwardInput(microbatch, received),
      );
    });
  }

  backwardWeight(stage: number, microbatch: number): Promise<void> {
    // deno-lint-ignore require-await
    return this.#busy.during(async () => {
      this.#stageAt(stage).backwardWeight(microbatch, this.#left(stage, microbatch));
      this.#work.start(this.#now.device);
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
      this.#work.start(this.#now.device);
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
      this.#work.start(this.#now.device);
    });

  beginLocal: Compute["beginLocal"] = () => this.#now.outer.begin();

  deltas: Compute["deltas"] = (tensors) => this.#busy.during(() => this.#now.outer.deltas(tensors));

  outerStep: Compute["outerStep"] = (...args) =>
    // deno-lint-ignore require-await
    this.#busy.during(async () => {
      this.#now.outer.step(...args);
      this.#work.start(this.#now.device);
    });

  // deno-lint-ignore require-await
  adopt: Compute["adopt"] = async (tensors, words) => this.#now.outer.adopt(tensors, words);

  /** One entry of losses for each pass of an own stage, by microbatch, then stage. */
  finish(): Promise<RoundResults> {
    return this.#busy.during(() => {
      const loaded = this.#now, evaluated = this.#evaluating;
      this.#evaluating = false;
      return roundResults(loaded, evaluated);
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
      this.#work.start(device);
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
