/**
 * A worker of a mesh: says hello, and then does what the coordinator's plans ask, one generation after the other, until
 * it leaves or the coordinator is gone. Everything that waits, draws or talks is handed in; nothing here knows whether it
 * runs in Deno, in a browser or under a virtual clock.
 *
 * @module
 */
import { limits } from "../mesh/limits.ts";
import { SendBudget } from "../mesh/link/budget.ts";
import type { Delegation, Identity } from "../mesh/identity/identity.ts";
import { parseTurn, type TurnServer } from "../mesh/transports/ice_servers.ts";
import type { FromCoordinator, FromWorker, Lent, Profile, Turn } from "../mesh/control/messages.ts";
import type { Control, Heard, PullRequest } from "../mesh/control/control.ts";
import { hostedExperts } from "../mesh/plan.ts";
import { timesAsFast } from "../mesh/speed.ts";
import type { Chance, Clock, Transport } from "../mesh/runtime.ts";
import { offeredCodecs, type Zstd } from "../mesh/tensors/tensor_codec.ts";
import type { Compute, Exchanger } from "./compute.ts";
import { PlanViolationError, RefusedError } from "./errors.ts";
import type { WorkerEvent } from "./events.ts";
import { Generation } from "./generation.ts";

/** The worker's end of its connection to the coordinator. */
export type WorkerControl = Control<FromCoordinator, FromWorker>;

/** How long a leaving worker goes on answering, so that a running job can save what only it holds. */
const LEAVING_MS = 10_000;

/** Errors after which a device never answers again. */
const GONE = new Set(["ComputeThreadError", "DeviceLostError"]);

/** What a worker is made of. */
export interface WorkerOptions {
  readonly clock: Clock;
  readonly transport: Transport;
  readonly control: WorkerControl;
  /** Opens the device; passes that need other workers' experts call `exchanger`. */
  readonly compute: (exchanger: Exchanger) => Promise<Compute>;
  /** The name to join with; the coordinator refuses one that is taken. */
  readonly name: string;
  /** Who this worker is, and the public key of the coordinator that let it in: what links prove and ask for. */
  readonly identity: Identity;
  readonly coordinator: Uint8Array<ArrayBuffer>;
  readonly chance: Chance;
  /** Name and version of this program, for people. */
  readonly software: string;
  /** Bytes of the device that the mesh may use; absent: what the device offers. */
  readonly memory?: number;
  /** What else of it the mesh may use; absent parts: all. `compute` keeps to the share by itself. */
  readonly lent?: Lent;
  readonly onevent?: (event: WorkerEvent) => void;
  /** Compression, where the platform has it. */
  readonly zstd?: Zstd;
  /** Takes the TURN server that the coordinator names, and what to be known by there, each time that this is renewed. */
  readonly onturn?: (server: TurnServer) => void;
}

/** A worker that runs. */
export interface RunningWorker {
  /** Resolves with the reason when the connection to the coordinator ends; rejects with a {@linkcode RefusedError}
   * where it was not admitted, and with a device's error where the device could not be opened or is gone. */
  readonly ended: Promise<string>;
  /** Says goodbye, goes on serving until the coordinator lets go (10 s at most), then closes. */
  leave(reason: string): Promise<void>;
  /** Messages and frames that were dropped so far: of other generations, too late, twice. */
  dropped(): { generation: number; stale: number; duplicates: number };
}

/** Starts a worker on an open control connection. */
export function startWorker(options: WorkerOptions): RunningWorker {
  return new MeshWorker(options);
}

class MeshWorker implements RunningWorker {
  readonly ended: Promise<string>;
  #compute: Compute | undefined;
  #generation: Generation | undefined;
  /** Of generations before the current one. */
  #dropped = { generation: 0, stale: 0, duplicates: 0 };
  #admitted = false;
  /** The coordinator's latest word for this worker in the run that is under way. */
  #delegation: Delegation | undefined;
  readonly #budget: SendBudget | undefined;
  #refusal: RefusedError | undefined;
  /** Why the device is gone for good. */
  #broken: Error | undefined;
  #leaving: (() => void) | undefined;

  constructor(private readonly options: WorkerOptions) {
    const { clock, lent } = options;
    this.#budget = lent?.sending === undefined ? undefined : new SendBudget(clock, lent.sending);
    this.ended = this.#live();
    this.ended.catch(() => {}); // for those who only look at it later
  }

  async #live(): Promise<string> {
    const { control, name, software, clock, lent } = this.options;
    const lending = lent?.until === undefined ? undefined : clock.timer(
      lent.until - clock.wall(),
      () => void this.leave("the time for which it was lent is over"),
    );
    control.onmessage = (message) => this.#receive(message);
    control.onpull = (request) => this.#answer(request);
    try {
      // Calls of the exchanger come only from passes of the generation that is there.
      const compute = await this.options.compute((exchange) => this.#generation!.exchange(exchange));
      this.#compute = compute;
      const profile = this.#limited(await compute.profile());
      this.#event({ type: "profiled", profile });
      control.send({ type: "hello", software, name, profile });
      const reason = await control.closed;
      const fault = this.#refusal ?? this.#broken;
      if (fault !== undefined) throw fault;
      return reason;
    } catch (error) {
      control.close((error as Error).message);
      throw error;
    } finally {
      lending?.cancel();
      this.#end("the connection to the coordinator closed");
      this.#leaving?.();
      await this.#generation?.ended;
      this.#compute?.close();
    }
  }

  #limited(profile: Profile): Profile {
    const { memory = Infinity, zstd, lent } = this.options, { share = 1 } = lent ?? {};
    return {
      ...profile,
      ...timesAsFast(profile, share),
      memory: Math.min(memory, profile.memory),
      codecs: offeredCodecs(zstd),
      ...(lent === undefined ? {} : { lent }),
    };
  }

  async leave(reason: string): Promise<void> {
    const { control, clock } = this.options;
    if (this.#generation !== undefined && !this.#generation.over) {
      this.#say({ type: "leaving", reason: text(reason) });
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#leaving = resolve;
      const timer = clock.timer(LEAVING_MS, resolve);
      await promise;
      timer.cancel();
    }
    control.close(reason);
    await this.ended.catch(() => {});
  }

  dropped(): { generation: number; stale: number; duplicates: number } {
    const now = this.#generation?.dropped ?? { generation: 0, stale: 0, duplicates: 0 };
    return {
      generation: this.#dropped.generation + now.generation,
      stale: this.#dropped.stale + now.stale,
      duplicates: this.#dropped.duplicates + now.duplicates,
    };
  }

  #event(event: WorkerEvent): void {
    this.options.onevent?.(event);
  }

  /** Tells the coordinator, unless it is gone: then there is nobody to tell. */
  #say(message: FromWorker): void {
    this.options.control.send(message);
  }

  #receive(message: Heard<FromCoordinator>): void {
    if (message.type === "refused") {
      this.#refusal = new RefusedError(message.reason);
      return this.options.control.close("refused");
    }
    if (message.type === "welcome") {
      this.#admitted = true;
      if (message.turn !== undefined) this.#turn(message.turn);
      return this.#event({ type: "joined", id: message.id, run: message.run });
    }
    if (message.type === "waiting") return this.#event({ type: "waiting", reason: message.reason });
    if (!this.#admitted) return this.options.control.close("the coordinator spoke before it said welcome");
    switch (message.type) {
      case "assign":
        return this.#assign(message);
      case "turn":
        return this.#turn(message.turn);
      case "stop":
        if (!this.#current(message.generation)) return;
        this.#end(message.reason);
        this.#event({ type: "stopped", reason: message.reason });
        return this.#leaving?.();
      case "delegation":
        if (this.#current(message.generation)) this.#delegation = message.delegation;
        return;
      case "signal":
      case "start":
      case "round":
      case "decision":
        if (!this.#current(message.generation)) return;
        try {
          this.#generation!.receive(message);
        } catch (error) {
          this.#failed(message.generation, error as Error);
        }
    }
  }

  #turn({ url, username, password }: Turn): void {
    try {
      this.options.onturn?.({ ...parseTurn(url), username, password });
    } catch (error) {
      this.options.control.close((error as Error).message);
    }
  }

  /** Whether a message belongs to the generation that is there; others are dropped and counted. */
  #current(generation: number): boolean {
    if (this.#generation?.number === generation && !this.#generation.over) return true;
    this.#dropped.generation++;
    return false;
  }

  #assign({ slice, moments, outer, delegation }: Extract<FromCoordinator, { type: "assign" }>): void {
    const { clock, transport, control, identity, coordinator, chance, zstd } = this.options;
    const before = this.#generation;
    if (before !== undefined) {
      if (slice.generation <= before.number) {
        this.#dropped.generation++;
        return;
      }
      this.#end("a new plan came");
      const { generation, stale, duplicates } = before.dropped;
      this.#dropped.generation += generation;
      this.#dropped.stale += stale;
      this.#dropped.duplicates += duplicates;
    }
    this.#delegation = delegation;
    const own = slice.stages.filter((stage) => stage.worker === slice.self);
    this.#event({
      type: "assigned",
      generation: slice.generation,
      layers: own.flatMap(({ from, to }) => from < to ? [[from, to] as const] : []),
      experts: hostedExperts(slice.stages, slice.self),
    });
    try {
      this.#generation = new Generation({
        slice,
        moments,
        outer,
        clock,
        transport,
        zstd,
        budget: this.#budget,
        credentials: { identity, coordinator, chance, delegation: () => this.#delegation! },
        compute: this.#compute!,
        pull: (tensor, part, start, length) => control.pull({ tensor, part, start, length }),
        tell: (message) => this.#say(message),
        event: (event) => this.#event(event),
        after: before?.ended ?? Promise.resolve(),
        failed: (error) => this.#failed(slice.generation, error),
      });
    } catch (error) {
      this.#failed(slice.generation, error as Error);
    }
  }

  #failed(generation: number, error: Error): void {
    const reason = text(error.message);
    this.#event({ type: "failed", reason });
    this.#say({ type: "failed", generation, reason });
    if (this.#generation?.number === generation) this.#generation.end(reason);
    if (GONE.has(error.name) && this.#broken === undefined) {
      // Without a device there is no next generation here. The coordinator hears the reason first.
      this.#broken = error;
      const { control } = this.options;
      control.drained(0).then(() => control.close(reason));
    }
  }

  #end(reason: string): void {
    this.#generation?.end(reason);
  }

  /** Gives words of a tensor that this worker holds, as they are after every decision that came before the question. */
  async #answer({ tensor, part, start, length }: PullRequest): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#generation === undefined) {
      throw new PlanViolationError(`${tensor} was asked for before any plan`);
    }
    const words = await this.#generation.read(tensor, part, start, length);
    return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  }
}

/** Text as messages carry it. */
function text(reason: string): string {
  return reason.slice(0, limits.textLength);
}
