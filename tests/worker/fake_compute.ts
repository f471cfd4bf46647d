/** A scripted device: it notes every call and answers with sizes that fit, instantly or when the test lets it. */
import type { Compute, Exchanger, ForwardInput, HeldTensor, StepDecision } from "../../worker/compute.ts";
import type { Losses, Part, Profile } from "../../mesh/control/messages.ts";
import { hostedExperts, type Slice } from "../../mesh/plan.ts";

export interface FakeScript {
  /** Waited for inside the named call. */
  readonly before?: (call: string) => Promise<void> | void;
  /** The losses that `finish` reports. */
  readonly losses?: () => Losses[];
  /** The sums that `finish` reports. */
  readonly tensors?: () => { name: string; sum: number; finite: boolean }[];
  /** Send one row to every other host of each layer of the stage in every pass. */
  readonly exchanges?: boolean;
}

export const HIDDEN = 4;

/** Words of a tensor in the fakes' models: ten each, all ones at first. */
export const FAKE_WORDS = 10;

export class FakeCompute implements Compute {
  readonly calls: string[] = [];
  readonly weights = new Map<string, Float32Array<ArrayBuffer>>();
  exchanger: Exchanger = () => Promise.reject(new Error("no exchanger"));
  #slice!: Slice;

  constructor(private readonly script: FakeScript = {}) {}

  async #note(call: string): Promise<void> {
    this.calls.push(call);
    await this.script.before?.(call);
  }

  profile(): Promise<Profile> {
    return Promise.resolve({
      device: "reference",
      deviceName: "fake",
      flops: 1e9,
      bandwidth: 1e9,
      memory: 2 ** 30,
      maxBinding: 2 ** 27,
    });
  }

  async load(slice: Slice): Promise<HeldTensor[]> {
    await this.#note(`load ${slice.generation}`);
    this.#slice = slice;
    const name = `of ${slice.self}`;
    this.weights.set(name, new Float32Array(FAKE_WORDS));
    return [{ name, shape: [FAKE_WORDS], order: 0, copy: false }];
  }

  put(tensor: string, part: Part, start: number, words: Float32Array<ArrayBuffer>): Promise<void> {
    this.calls.push(`put ${tensor} ${part} ${start}+${words.length}`);
    this.weights.get(tensor)?.set(words, start);
    return Promise.resolve();
  }

  get(tensor: string, _part: Part, start: number, length: number): Promise<Float32Array<ArrayBuffer>> {
    return Promise.resolve(this.weights.get(tensor)!.slice(start, start + length));
  }

  async forward(
    { stage, microbatch, mode, ids, activation, labels }: ForwardInput,
  ): Promise<ArrayBuffer | undefined> {
    const inputs = [ids && "ids", activation && "activation", labels && "labels"].filter((name) => name).join(
      "+",
    );
    await this.#note(`forward ${stage}.${microbatch} ${mode} ${inputs}`);
    await this.#exchange(stage, microbatch, "forward", mode);
    const { batch, sequence } = this.#slice.shape;
    if (this.#slice.stages[stage].head) return undefined;
    return new Float32Array(batch * sequence * HIDDEN).fill(microbatch).buffer;
  }

  async backward(
    stage: number,
    microbatch: number,
    gradient?: ArrayBuffer,
  ): Promise<ArrayBuffer | undefined> {
    return await this.#backward("backward", stage, microbatch, gradient);
  }

  async backwardInput(
    stage: number,
    microbatch: number,
    gradient?: ArrayBuffer,
  ): Promise<ArrayBuffer | undefined> {
    return await this.#backward("backward-input", stage, microbatch, gradient);
  }

  async backwardWeight(stage: number, microbatch: number): Promise<void> {
    await this.#note(`backward-weight ${stage}.${microbatch}`);
  }

  async #backward(
    work: "backward" | "backward-input",
    stage: number,
    microbatch: number,
    gradient: ArrayBuffer | undefined,
  ): Promise<ArrayBuffer | undefined> {
    await this.#note(`${work} ${stage}.${microbatch} ${gradient ? "gradient" : ""}`.trim());
    await this.#exchange(stage, microbatch, "backward", "train");
    const { batch, sequence } = this.#slice.shape;
    if (this.#slice.stages[stage].embedding) return undefined;
    return new Float32Array(batch * sequence * HIDDEN).fill(-microbatch).buffer;
  }

  async #exchange(
    stage: number,
    microbatch: number,
    pass: "forward" | "backward",
    mode: "train" | "evaluate",
  ) {
    if (!this.script.exchanges) return;
    for (let layer = this.#slice.stages[stage].from; layer < this.#slice.stages[stage].to; layer++) {
      const others = [...new Set(this.#slice.stages.flatMap((each) => each.experts.flat()))]
        .filter((host) => host !== this.#slice.self && hostedExperts(this.#slice.stages, host).has(layer));
      const parts = others.map((host) => {
        const counts = new Uint32Array(hostedExperts(this.#slice.stages, host).get(layer)!.length);
        counts[0] = 1;
        return { host, counts, rows: new Float32Array(HIDDEN).fill(layer + 1).buffer };
      });
      const rows = await this.exchanger({ layer, microbatch, pass, mode, parts });
      rows.forEach((row, i) => {
        if (new Float32Array(row)[0] !== -(layer + 1)) throw new Error(`wrong rows from ${others[i]}`);
      });
    }
  }

  async host({ layer, microbatch, pass, part }: Parameters<Compute["host"]>[0]): Promise<ArrayBuffer> {
    await this.#note(`host ${pass} ${layer}.${microbatch} [${part.counts}]`);
    return new Float32Array(part.rows).map((value) => -value).buffer;
  }

  async hostWeights(layer: number, microbatch: number): Promise<void> {
    await this.#note(`weights of guests ${layer}.${microbatch}`);
  }

  async takeTiedGradient(): Promise<Float32Array<ArrayBuffer>> {
    await this.#note("take tied gradient");
    return new Float32Array(FAKE_WORDS);
  }

  async addTiedGradient(words: Float32Array<ArrayBuffer>): Promise<void> {
    await this.#note(`add tied gradient ${words.length}`);
  }

  async fold(): Promise<void> {
    await this.#note("fold");
  }

  async read(part: "weight" | "gradient", tensors: readonly string[]): Promise<ArrayBuffer> {
    await this.#note(`read ${part} ${tensors.join(" ")}`);
    return new ArrayBuffer(4 * FAKE_WORDS * tensors.length);
  }

  async expect(tensors: readonly string[]): Promise<void> {
    await this.#note(`expect ${tensors.join(" ")}`);
  }

  async write(tensors: readonly string[], words: ArrayBuffer): Promise<void> {
    await this.#note(`write ${tensors.join(" ")} ${words.byteLength}`);
  }

  async addGradients(
    tensors: readonly string[],
    before: readonly ArrayBuffer[],
    behind: readonly ArrayBuffer[],
  ): Promise<void> {
    await this.#note(`add gradients ${tensors.join(" ")} ${before.length} + own + ${behind.length}`);
  }

  async beginLocal(): Promise<void> {
    await this.#note("begin local");
  }

  async deltas(tensors: readonly string[]): Promise<ArrayBuffer> {
    await this.#note(`deltas ${tensors.join(" ")}`);
    return new ArrayBuffer(4 * FAKE_WORDS * tensors.length);
  }

  async outerStep(tensors: readonly string[], deltas: readonly ArrayBuffer[]): Promise<void> {
    await this.#note(`outer step ${tensors.join(" ")} ${deltas.length}`);
  }

  async adopt(tensors: readonly string[], words: ArrayBuffer): Promise<void> {
    await this.#note(`adopt ${tensors.join(" ")} ${words.byteLength}`);
  }

  async finish(): Promise<{ losses: Losses[]; tensors: { name: string; sum: number; finite: boolean }[] }> {
    await this.#note("finish");
    return { losses: this.script.losses?.() ?? [], tensors: this.script.tensors?.() ?? [] };
  }

  async balance(): Promise<void> {
    await this.#note("balance");
  }

  async step({ step, commit }: StepDecision): Promise<void> {
    await this.#note(`step ${step} ${commit ? "commit" : "skip"}`);
    for (const words of this.weights.values()) if (commit) words.fill(step);
  }

  busy(): Promise<number> {
    return Promise.resolve(1);
  }

  close(): void {
    this.calls.push("close");
  }
}
