/**
 * Who may belong to the mesh: invites that were given out, keys that were let in, wait or were shut out. Every change is on
 * the disk before anybody learns of it, so that a single-use invite is one even across a crash.
 *
 * @module
 */
import { z } from "zod";
import { base64url, fromBase64url } from "../../mesh/identity/base64url.ts";
import type { Applicant } from "../../mesh/control/handshake_control.ts";
import { fingerprint, type Identity, identityOfSeed, newIdentity } from "../../mesh/identity/identity.ts";
import { formatInvite, newInvite } from "../../mesh/identity/invite.ts";
import { limits } from "../../mesh/limits.ts";
import type { Chance, Clock } from "../../mesh/runtime.ts";
import { AdmissionError } from "../errors.ts";

/** Where admissions are kept: text that only the coordinator's owner may read, replaced as a whole. */
export interface Keeper {
  read(): Promise<string | undefined>;
  write(text: string): Promise<void>;
}

const key = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const time = z.number().min(0).max(8.64e15);

const InviteRecord = z.strictObject({ key, left: z.int().min(1), expires: z.optional(time) });
const WorkerRecord = z.strictObject({
  key,
  /** The last name it joined with; a name stays with its key. */
  name: z.optional(z.string().max(limits.nameLength)),
  state: z.enum(["admitted", "waiting", "revoked"]),
  since: time,
  /** Public half of the invite that it came with. */
  invite: key,
});
const Records = z.strictObject({
  version: z.literal(1),
  invites: z.array(InviteRecord).max(limits.invites),
  workers: z.array(WorkerRecord).max(limits.knownWorkers),
});
type WorkerRecord = z.infer<typeof WorkerRecord>;

/** A worker that is known, as its owner sees it. */
export interface KnownWorker {
  readonly worker: string;
  readonly fingerprint: string;
  readonly state: WorkerRecord["state"];
  /** When it got into that state, ms since 1970. */
  readonly since: number;
}

/** How an invite may be used. */
export interface InviteTerms {
  /** Workers that it admits. */
  readonly uses: number;
  /** For how long, in ms; undefined: until it is used up. */
  readonly forMs?: number;
}

/** Whose list of invites and workers it is, and where it is kept. */
export interface AdmissionOptions {
  readonly runtime: Clock & Chance;
  /** The coordinator's own key. */
  readonly identity: Identity;
  /** Absent: forgotten when the coordinator ends. */
  readonly keeper?: Keeper;
  /** Whether the owner must let everyone in who comes with an invite. */
  readonly approve?: boolean;
  /** Names this mesh in the welcome. */
  readonly mesh: string;
}

/** Invites that are good, workers that were let in, and who may come now. */
export class Admission {
  readonly identity: Identity;
  readonly mesh: string;
  readonly #runtime: Clock & Chance;
  readonly #keeper: Keeper | undefined;
  readonly #approve: boolean;
  readonly #invites = new Map<string, z.infer<typeof InviteRecord>>();
  readonly #workers = new Map<string, WorkerRecord>();
  #saving: Promise<void> = Promise.resolve();

  private constructor({ identity, mesh, runtime, keeper, approve }: AdmissionOptions) {
    this.identity = identity;
    this.mesh = mesh;
    this.#runtime = runtime;
    this.#keeper = keeper;
    this.#approve = approve ?? false;
  }

  /** Reads what is kept. Throws {@linkcode AdmissionError} where that is damaged. */
  static async open(options: AdmissionOptions): Promise<Admission> {
    const admission = new Admission(options), text = await options.keeper?.read();
    if (text === undefined) return admission;
    let records: z.infer<typeof Records>;
    try {
      records = Records.parse(JSON.parse(text));
    } catch {
      throw new AdmissionError(
        "The coordinator's list of admitted workers (admissions.json in its folder) is damaged. Put back a copy, or remove it: " +
          "then every worker needs a new invite, and those that were revoked are no longer known.",
      );
    }
    for (const invite of records.invites) admission.#invites.set(invite.key, invite);
    for (const worker of records.workers) admission.#workers.set(worker.key, worker);
    return admission;
  }

  /** An admission with a key of its own that keeps nothing: a mesh in one process. */
  static async inMemory(runtime: Clock & Chance, mesh = "mesh"): Promise<Admission> {
    return await Admission.open({ runtime, identity: await newIdentity(), mesh });
  }

  /** Makes an invite to a coordinator at `address` and answers with its line. */
  async invite(address: string, { uses, forMs }: InviteTerms): Promise<string> {
    this.#tidy();
    if (this.#invites.size >= limits.invites) {
      throw new AdmissionError(`${limits.invites} invites are still good: no more can be made.`);
    }
    const expires = forMs === undefined ? undefined : this.#runtime.wall() + forMs;
    const invite = newInvite(this.#runtime, { address, coordinator: this.identity.publicKey, expires });
    const { publicKey } = await identityOfSeed(invite.secret), id = base64url(publicKey);
    this.#invites.set(id, {
      key: id,
      left: uses,
      ...(expires === undefined ? {} : { expires: invite.expires! }),
    });
    await this.#save();
    return formatInvite(invite);
  }

  /** Judges somebody who proved to have a key and an invite's secret: the reason to refuse, or undefined. */
  async judge(applicant: Applicant): Promise<string | undefined> {
    const id = base64url(applicant.publicKey), known = this.#workers.get(id);
    if (known !== undefined) {
      return known.state === "revoked" ? "The coordinator's owner has revoked this worker." : undefined;
    }
    const inviteId = base64url(applicant.invite), invite = this.#invites.get(inviteId);
    if (invite === undefined) {
      return "The invite is not valid here: it was used up, has expired or was never made. Ask for a new one (`volary invite`).";
    }
    const wall = this.#runtime.wall();
    if (invite.expires !== undefined && wall >= invite.expires) {
      return `The invite has expired (${new Date(invite.expires).toISOString()}). Ask for a new one ` +
        `(\`volary invite\`).`;
    }
    if (this.#workers.size >= limits.knownWorkers) {
      return `The coordinator knows ${limits.knownWorkers} workers and takes no new ones.`;
    }
    // Spent before anything is awaited, so that two who come at once do not both use it.
    if (invite.left === 1) this.#invites.delete(inviteId);
    else this.#invites.set(inviteId, { ...invite, left: invite.left - 1 });
    this.#workers.set(id, {
      key: id,
      state: this.#approve ? "waiting" : "admitted",
      since: wall,
      invite: inviteId,
    });
    await this.#save();
    return undefined;
  }

  /** Whether a key may work now; "waiting" needs its owner's word first. */
  state(publicKey: Uint8Array): WorkerRecord["state"] | undefined {
    return this.#workers.get(base64url(publicKey))?.state;
  }

  /** Gives a key its name. The reason why not, or undefined. */
  async name(publicKey: Uint8Array, name: string): Promise<string | undefined> {
    const id = base64url(publicKey), worker = this.#workers.get(id);
    if (worker === undefined) return "The coordinator does not know this worker.";
    for (const other of this.#workers.values()) {
      if (other.name === name && other.key !== id && other.state !== "revoked") {
        return `The name ${name} belongs to another worker (${fingerprint(fromBase64url(other.key)!)}). ` +
          "Choose another name (--name), or have the owner revoke that one.";
      }
    }
    if (worker.name === name) return undefined;
    this.#workers.set(id, { ...worker, name });
    await this.#save();
    return undefined;
  }

  /** Everyone who is known, in the order in which they came. */
  get workers(): readonly KnownWorker[] {
    return [...this.#workers.values()].map(shown);
  }

  /** Lets a worker in that waits, or one that was revoked. Answers with its key. */
  approve(who: string): Promise<Changed> {
    return this.#change(who, "admitted");
  }

  /**
   * Shuts a worker out, for good or until it is approved. Answers with its key. The invite that it came with is over too, or
   * its owner could come back with another key.
   */
  revoke(who: string): Promise<Changed> {
    return this.#change(who, "revoked");
  }

  async #change(who: string, state: WorkerRecord["state"]): Promise<Changed> {
    const print = who.toLowerCase();
    const named = [...this.#workers.values()].filter((worker) => {
      return worker.name === who || (print.length >= 4 && shown(worker).fingerprint.startsWith(print));
    });
    // A name may have passed from a revoked key to another one.
    const found = named.length > 1 ? named.filter((worker) => worker.state !== "revoked") : named;
    if (found.length !== 1) {
      throw new AdmissionError(
        found.length === 0
          ? `No worker is called ${who}, and no fingerprint begins so. See: volary workers`
          : `Several workers match ${who}: ` +
            `${found.map((worker) => shown(worker).fingerprint).join(", ")}. Give a fingerprint.`,
      );
    }
    const [worker] = found;
    if (worker.state !== state) {
      if (state === "revoked") this.#invites.delete(worker.invite);
      this.#workers.set(worker.key, { ...worker, state, since: this.#runtime.wall() });
      await this.#save();
    }
    return { publicKey: fromBase64url(worker.key)!, ...shown(this.#workers.get(worker.key)!) };
  }

  /** Forgets invites that are over. */
  #tidy(): void {
    const wall = this.#runtime.wall();
    for (const [id, { expires }] of this.#invites) {
      if (expires !== undefined && wall >= expires) this.#invites.delete(id);
    }
  }

  /** One after the other, each with everything that is known when its turn comes. */
  #save(): Promise<void> {
    const save = this.#saving.then(async () => {
      const records: z.infer<typeof Records> = {
        version: 1,
        invites: [...this.#invites.values()],
        workers: [...this.#workers.values()],
      };
      await this.#keeper?.write(JSON.stringify(records, null, 2) + "\n");
    });
    this.#saving = save.catch(() => {});
    return save;
  }
}

/** A worker whose state was set, with its key. */
export interface Changed extends KnownWorker {
  readonly publicKey: Uint8Array<ArrayBuffer>;
}

function shown({ key, name, state, since }: WorkerRecord): KnownWorker {
  return { worker: name ?? "", fingerprint: fingerprint(fromBase64url(key)!), state, since };
}
