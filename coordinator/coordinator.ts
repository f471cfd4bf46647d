/**
 * A coordinator: the workers that joined and the one run that may be under way. Knows neither sockets nor files but
 * through what it is given.
 *
 * @module
 */
import type { MemberEvent } from "./member.ts";
import type { Lent } from "../mesh/control/messages.ts";
import type { Channel, Runtime } from "../mesh/runtime.ts";
import type { Admission } from "./admission/admission.ts";
import { CoordinatorError } from "./errors.ts";
import type { Outcome, RunEvent } from "./events.ts";
import { measureLinks } from "./run/link_trial.ts";
import type { Member } from "./member.ts";
import { type Known, Membership } from "./admission/membership.ts";
import { type KnownLink, Paces } from "./planner/paces.ts";
import { run, type RunRequest } from "./run/run.ts";
import type { TurnGrants } from "./admission/turn_grants.ts";

/** What a coordinator is made of. */
export interface CoordinatorOptions {
  readonly runtime: Runtime;
  /** The coordinator's key, its invites, and whom it let in. */
  readonly admission: Admission;
  /** Told of everyone who joins and leaves. */
  readonly onmember?: (event: MemberEvent) => void;
  /** Gives workers their names for a TURN server; absent: the mesh has none. */
  readonly turn?: TurnGrants;
  /** What was learned before; absent: nothing, and nothing is kept. */
  readonly paces?: Paces;
}

/** What a coordinator says about itself; see `volary status`. */
export interface Status {
  readonly workers: readonly {
    readonly worker: string;
    readonly device: string;
    readonly kind: "webgpu" | "reference";
    readonly flops: number;
    readonly bandwidth: number;
    /** Seconds of a kernel call beside its arithmetic and bytes. */
    readonly launch?: number;
    /** Seconds until a result is in the host's memory. */
    readonly read?: number;
    readonly memory: number;
    readonly maxBinding: number;
    /** What its user lends of it; absent: everything but what `memory` says. */
    readonly lent?: Lent;
    /** Operations a second that its steps have shown of the whole device; absent: nothing is known. */
    readonly shown?: number;
  }[];
  /** Links that were used so far: seconds one way and bytes a second, as far as they are known. */
  readonly links: readonly KnownLink[];
  /** The run under way, or the last one. */
  readonly run: {
    readonly name: string;
    readonly active: boolean;
    readonly plan?: RunEvent;
    readonly step?: RunEvent;
    readonly evaluation?: RunEvent;
    readonly checkpoint?: RunEvent;
    readonly end?: RunEvent;
  } | null;
}

/** How to run; see {@linkcode Coordinator.run}. */
export interface RunCall {
  /** Wait until this many workers have joined. */
  readonly workers?: number;
  readonly tell: (
    event: RunEvent | { readonly event: "waiting"; readonly have: number; readonly want: number },
  ) => void;
}

/** See the module's description. */
export class Coordinator {
  readonly #runtime: Runtime;
  readonly #membership: Membership;
  #generation = 0;
  readonly #paces: Paces;
  #stop: AbortController | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #last: NonNullable<Status["run"]> | undefined;
  readonly #changed = new Set<() => void>();

  constructor({ runtime, admission, onmember, turn, paces = new Paces() }: CoordinatorOptions) {
    this.#paces = paces;
    this.#runtime = runtime;
    this.#membership = new Membership(runtime, admission, (event) => {
      onmember?.(event);
      for (const changed of this.#changed) changed();
    }, turn);
  }

  /** Takes a new connection; whoever it is says hello or is shut out. `from`: where it comes from, if that tells people apart. */
  admit(channel: Channel, from?: string): void {
    this.#membership.admit(channel, from);
  }

  /** Workers that are there. */
  get members(): readonly Member[] {
    return this.#membership.members;
  }

  /** Invites, and everyone who was let in, waits or was shut out. */
  get membership(): Pick<Membership, "approve" | "revoke"> & {
    readonly known: readonly Known[];
    readonly halfOpen: number;
  } {
    return this.#membership;
  }

  /** Runs a recipe. Throws where a run is under way, and what `run` in run.ts throws. */
  async run(request: RunRequest, call: RunCall): Promise<Outcome> {
    if (this.#stop !== undefined) {
      throw new CoordinatorError(
        `The run ${this.#last?.name ?? ""} is under way; a coordinator runs one at a time. See \`volary ` +
          `status\`.`,
      );
    }
    const stop = this.#stop = new AbortController();
    const ended = Promise.withResolvers<void>();
    this.#ended = ended.promise;
    try {
      this.#last = undefined;
      await this.#wait(call, stop.signal);
      return await run(request, {
        runtime: this.#runtime,
        members: () => this.members,
        signal: stop.signal,
        paces: this.#paces,
        nextGeneration: (above) => this.#generation = Math.max(this.#generation, above) + 1,
        tell: (event) => {
          this.#note(event);
          if (event.event === "checkpoint") this.#keep(call);
          call.tell(event);
        },
      });
    } finally {
      await this.#keep(call);
      if (this.#last) this.#last = { ...this.#last as NonNullable<Status["run"]>, active: false };
      this.#stop = undefined;
      ended.resolve();
    }
  }

  /**
   * Measures the links between all workers that are there, and keeps what they show. Throws where a run is under way, and what
   * {@linkcode measureLinks} throws.
   */
  async measureLinks(): Promise<readonly KnownLink[]> {
    if (this.#stop !== undefined) {
      throw new CoordinatorError(
        "A run is under way: its steps measure the links that they use. See `volary status`.",
      );
    }
    const stop = this.#stop = new AbortController(), ended = Promise.withResolvers<void>();
    this.#ended = ended.promise;
    try {
      await measureLinks({
        clock: this.#runtime,
        members: this.members,
        paces: this.#paces,
        nextGeneration: () => ++this.#generation,
        signal: stop.signal,
      });
      await this.#paces.save();
    } finally {
      this.#stop = undefined;
      ended.resolve();
    }
    return this.#paces.links(this.members.map(({ id }) => id));
  }

  /** Asks the run under way to save and end; resolves once it has. False where there is none. */
  async stop(): Promise<boolean> {
    if (this.#stop === undefined) return false;
    this.#stop.abort();
    await this.#ended;
    return true;
  }

  status(): Status {
    return {
      workers: this.members.map(({ id, profile }) => ({
        worker: id,
        device: profile.deviceName,
        kind: profile.device,
        flops: profile.flops,
        bandwidth: profile.bandwidth,
        ...(profile.launch === undefined ? {} : { launch: profile.launch }),
        ...(profile.read === undefined ? {} : { read: profile.read }),
        memory: profile.memory,
        maxBinding: profile.maxBinding,
        ...(profile.lent === undefined ? {} : { lent: profile.lent }),
        ...shownOf(this.#paces.of({ id, profile })),
      })),
      links: this.#paces.links(this.members.map(({ id }) => id)),
      run: this.#last ?? null,
    };
  }

  /** Ends the run in an orderly way and lets everyone go. */
  async close(reason: string): Promise<void> {
    await this.stop();
    this.#membership.close(reason);
  }

  async #wait({ workers, tell }: RunCall, signal: AbortSignal): Promise<void> {
    if (workers === undefined || this.members.length >= workers) return;
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        const have = this.members.length;
        if (have < workers) return tell({ event: "waiting", have, want: workers });
        this.#changed.delete(look);
        resolve();
      };
      signal.addEventListener("abort", () => {
        this.#changed.delete(look);
        reject(
          new CoordinatorError(
            `Stopped while waiting for ${workers} workers; ${this.members.length} had joined.`,
          ),
        );
      });
      this.#changed.add(look);
      look();
    });
  }

  /** What the run has taught is kept; where that fails it is told, and the run goes on. */
  async #keep({ tell }: RunCall): Promise<void> {
    try {
      await this.#paces.save();
    } catch (error) {
      tell({
        event: "unkept",
        text: `What was learned of workers' speeds was not kept: ${(error as Error).message}`,
      });
    }
  }

  #note(event: RunEvent): void {
    if (event.event === "plan") {
      this.#last = { ...this.#last, name: event.run, active: true, plan: event };
      return;
    }
    if (this.#last === undefined) return;
    const last = this.#last;
    if (event.event === "step") this.#last = { ...last, step: event };
    if (event.event === "evaluation") this.#last = { ...last, evaluation: event };
    if (event.event === "checkpoint") this.#last = { ...last, checkpoint: event };
    if (event.event === "done" || event.event === "stopped") this.#last = { ...last, end: event };
  }
}

function shownOf(shown: number | undefined): { readonly shown?: number } {
  return shown === undefined ? {} : { shown };
}
