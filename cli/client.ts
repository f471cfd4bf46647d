/**
 * How the owner's commands find and ask a running coordinator.
 *
 * @module
 */
import { join, resolve } from "@std/path";
import type { InviteTerms, KnownWorker } from "../coordinator/admission/admission.ts";
import type { Status } from "../coordinator/coordinator.ts";
import { CoordinatorFile, type RunBody, type RunLine } from "../coordinator/admission/owner_protocol.ts";
import { readOwn } from "../mesh/identity/deno_key_file.ts";
import { objects } from "./lines.ts";
import { CommandError } from "./verb.ts";

/** Folder of runs and of coordinator.json where --state does not say another. */
export const DEFAULT_STATE = "runs";

/** Path of the file by which a coordinator is found. */
export function coordinatorFile(state: string): string {
  return join(resolve(state), "coordinator.json");
}

/** A coordinator that runs on this machine. */
export class Owner {
  private constructor(readonly file: CoordinatorFile, private readonly state: string) {}

  /**
   * Finds the coordinator of a state folder. Throws {@linkcode CommandError} where there is none, `KeyFileError` where others
   * may read its file.
   */
  static async find(state: string): Promise<Owner> {
    const path = coordinatorFile(state), text = await readOwn(path);
    if (text === undefined) {
      throw new CommandError(
        `No coordinator is running with its state in ${state} (there is no ${path}). Start one: deno task volary up` +
          (state === DEFAULT_STATE ? "" : ` --state ${state}`),
      );
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      json = undefined;
    }
    const file = CoordinatorFile.safeParse(json);
    if (!file.success) throw new CommandError(`${path} is damaged; stop the coordinator and start it again.`);
    return new Owner(file.data, state);
  }

  async status(): Promise<Status> {
    const response = await this.#request("GET", "/status");
    return await response.json() as Status;
  }

  /** Asks the run under way to save and end. */
  async stop(): Promise<boolean> {
    const response = await this.#request("POST", "/stop");
    return (await response.json() as { stopped: boolean }).stopped;
  }

  /** Everyone who was let in, waits or was shut out. */
  async workers(): Promise<readonly (KnownWorker & { readonly joined: boolean })[]> {
    const response = await this.#request("GET", "/workers");
    return await response.json() as (KnownWorker & { joined: boolean })[];
  }

  /** Lets a worker in, or shuts it out. */
  async change(what: "approve" | "revoke", worker: string): Promise<KnownWorker> {
    const response = await this.#request("POST", `/${what}`, JSON.stringify({ worker }));
    return await response.json() as KnownWorker;
  }

  /** Measures the links between all workers that joined. */
  async measureLinks(): Promise<void> {
    const response = await this.#request("POST", "/links");
    await response.body?.cancel();
  }

  /** Makes another invite and answers with its line. */
  async invite(terms: Required<InviteTerms>): Promise<string> {
    const response = await this.#request("POST", "/invite", JSON.stringify(terms));
    return (await response.json() as { invite: string }).invite;
  }

  /** Starts a run and gives its events as they come. */
  async *run(body: RunBody): AsyncGenerator<RunLine> {
    const response = await this.#request("POST", "/run", JSON.stringify(body));
    try {
      yield* objects<RunLine>(response.body!);
    } catch (error) {
      if (error instanceof CommandError) throw error;
      throw new CommandError(
        `The connection to the coordinator broke (${(error as Error).message}). If it still runs, ` +
          `\`volary status\` shows how far it is; if not, start it again and resume with --resume.`,
      );
    }
  }

  async #request(method: string, path: string, body?: string): Promise<Response> {
    const { address, owner } = this.file;
    let response: Response;
    try {
      response = await fetch(address + path, { method, body, headers: { authorization: `Bearer ${owner}` } });
    } catch {
      throw new CommandError(
        `The coordinator of ${this.state} does not answer at ${address}: it has probably ended. Start it again: deno task ` +
          `volary up${this.state === DEFAULT_STATE ? "" : ` --state ${this.state}`}`,
      );
    }
    if (response.ok) return response;
    if (response.status === 409) {
      throw new CommandError((await response.json() as { message: string }).message);
    }
    await response.body?.cancel();
    throw new CommandError(
      response.status === 404
        ? `Another coordinator answers at ${address} than the one that wrote ${coordinatorFile(this.state)}.`
        : `The coordinator at ${address} refused (${method} ${path}: ${response.status}).`,
    );
  }
}
