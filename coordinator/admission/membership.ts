/**
 * Who belongs to the mesh. A stranger must first prove who it is and that it was invited; only then it is listened to, says
 * its name and what it measured, and becomes a member.
 *
 * @module
 */
import { type Control, control as openControl, type Heard } from "../../mesh/control/control.ts";
import { HandshakeError } from "../../mesh/errors.ts";
import { interview, tellVerdict } from "../../mesh/control/handshake_control.ts";
import { delegate, fingerprint, sameBytes } from "../../mesh/identity/identity.ts";
import { limits } from "../../mesh/limits.ts";
import { type FromCoordinator, FromWorker, type Lent, type Turn } from "../../mesh/control/messages.ts";
import type { Chance, Channel, Clock } from "../../mesh/runtime.ts";
import type { Admission, KnownWorker } from "./admission.ts";
import type { MemberEvent } from "../member.ts";
import type { Member } from "../member.ts";
import type { TurnGrants } from "./turn_grants.ts";

/** Time for a hello once a worker was let in, in ms: it opens its device and measures it before it speaks. */
export const HELLO_MS = 60_000;

/** Names that are safe in plans, tables and paths. */
const goodName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** Somebody who was let in once or waits. */
export interface Known extends KnownWorker {
  readonly joined: boolean;
  /** What a joined one lends of itself. */
  readonly lent?: Lent;
}

type Hello = Extract<FromWorker, { type: "hello" }>;

/** A connection whose other end proved to have a key that may join. */
interface Connection {
  readonly control: Control<FromWorker, FromCoordinator>;
  readonly publicKey: Uint8Array<ArrayBuffer>;
  /** Silent for longer than a living worker is. */
  suspected: boolean;
  /** What it said, while it waits for the owner's word. */
  waiting?: Hello;
}

/** See the module's description. */
export class Membership {
  readonly #members = new Map<string, { readonly member: Member; readonly connection: Connection }>();
  /** Connections that have proved nothing yet, with where they come from. */
  readonly #strangers = new Map<Channel, string | undefined>();
  /** Connections that were let in and are no members yet. */
  readonly #newcomers = new Set<Connection>();
  #closed: string | undefined;

  constructor(
    private readonly runtime: Clock & Chance,
    private readonly admission: Admission,
    private readonly onevent: (event: MemberEvent) => void,
    private readonly turn?: TurnGrants,
  ) {}

  /** In the order in which they joined. */
  get members(): readonly Member[] {
    return [...this.#members.values()].map(({ member }) => member);
  }

  /** Everyone who was ever let in or waits, with whether it is connected. */
  get known(): readonly Known[] {
    const joined = new Map(
      [...this.#members.values()].map(({ member, connection }) =>
        [fingerprint(connection.publicKey), member.profile.lent] as const
      ),
    );
    return this.admission.workers.map((worker) => {
      const lent = joined.get(worker.fingerprint);
      return { ...worker, joined: joined.has(worker.fingerprint), ...(lent === undefined ? {} : { lent }) };
    });
  }

  /** Connections that have not shown who they are. */
  get halfOpen(): number {
    return this.#strangers.size;
  }

  /** Listens to a stranger until it is a member or gone. `from` is its address, if that tells strangers apart. */
  admit(channel: Channel, from?: string): void {
    if (this.#closed !== undefined) return channel.close(this.#closed);
    const neighbours = [...this.#strangers].filter(([, other]) => from !== undefined && other === from);
    if (neighbours.length >= limits.halfOpenOfAddress) this.#makeRoom(neighbours);
    else if (this.#strangers.size >= limits.halfOpen) this.#makeRoom([...this.#strangers]);
    this.#strangers.set(channel, from);
    const timer = this.runtime.timer(limits.connectMs, () => channel.close("no proof came in time"));
    const done = () => {
      timer.cancel();
      this.#strangers.delete(channel);
    };
    channel.closed.then(done);
    this.#interview(channel).catch((error) => {
      const reason = error instanceof Error ? error.message : String(error);
      if (error instanceof HandshakeError) this.onevent({ event: "refused", reason });
      channel.drained(0).then(() => channel.close(reason));
    }).finally(done);
  }

  /** Shuts any one of them: in a flood it is hardly ever one that means it, whatever the order in which the flood comes. */
  #makeRoom(strangers: readonly (readonly [Channel, unknown])[]): void {
    const [unlucky] = new Uint32Array(this.runtime.random(4).buffer);
    const [stranger] = strangers[unlucky % strangers.length];
    this.#strangers.delete(stranger);
    stranger.close("others wait to show who they are");
  }

  /** Lets a worker in that waits, or one that was revoked. Throws `AdmissionError` where nobody is meant. */
  async approve(who: string): Promise<KnownWorker> {
    const { publicKey, ...worker } = await this.admission.approve(who);
    for (const connection of [...this.#newcomers]) {
      if (connection.waiting === undefined || !sameBytes(connection.publicKey, publicKey)) continue;
      const hello = connection.waiting;
      connection.waiting = undefined;
      this.#decide(connection, hello);
    }
    return worker;
  }

  /** Shuts a worker out and ends its connection. Throws `AdmissionError` where nobody is meant. */
  async revoke(who: string): Promise<KnownWorker> {
    const { publicKey, ...worker } = await this.admission.revoke(who);
    const connections = [...this.#newcomers, ...[...this.#members.values()].map((each) => each.connection)];
    for (const connection of connections) {
      if (sameBytes(connection.publicKey, publicKey)) {
        this.#refuse(connection, "The coordinator's owner has revoked this worker.");
      }
    }
    return worker;
  }

  /** Closes all connections, now and later. */
  close(reason: string): void {
    this.#closed = reason;
    for (const stranger of this.#strangers.keys()) stranger.close(reason);
    for (const { control } of this.#newcomers) control.close(reason);
    for (const { member } of this.#members.values()) member.close(reason);
  }

  async #interview(channel: Channel): Promise<void> {
    let gone = false;
    channel.closed.then(() => gone = true);
    const { runtime, admission } = this, { identity } = admission;
    const applicant = await interview(channel, { clock: runtime, chance: runtime, identity });
    const refused = this.#newcomers.size + this.#members.size >= limits.members
      ? `The mesh is full: ${limits.members} workers have joined.`
      : await admission.judge(applicant);
    if (gone || this.#closed !== undefined) return;
    tellVerdict(channel, refused);
    if (refused !== undefined) throw new HandshakeError(refused);
    this.#welcomeNewcomer(channel, applicant.publicKey);
  }

  /** Waits for the hello of somebody who was let in. */
  #welcomeNewcomer(channel: Channel, publicKey: Uint8Array<ArrayBuffer>): void {
    const control: Connection["control"] = openControl<typeof FromWorker, FromCoordinator>(
      channel,
      FromWorker,
      this.runtime,
    );
    control.maxBytes = limits.strangerBytes;
    const connection: Connection = { control, publicKey, suspected: false };
    this.#newcomers.add(connection);
    const timer = this.runtime.timer(HELLO_MS, () => control.close("no hello came in time"));
    control.closed.then(() => {
      timer.cancel();
      this.#newcomers.delete(connection);
    });
    control.onsuspected = (suspected) => connection.suspected = suspected;
    control.onmessage = (message: Heard<FromWorker>) => {
      timer.cancel();
      control.onmessage = () => control.close("spoke before it was welcome");
      if (message.type !== "hello") return control.close("a hello was expected");
      this.#decide(connection, message);
    };
  }

  async #decide(connection: Connection, hello: Hello): Promise<void> {
    const refused = await this.#judge(connection, hello.name);
    if (!this.#newcomers.has(connection)) return; // gone meanwhile
    if (refused !== undefined) return this.#refuse(connection, refused);
    switch (this.admission.state(connection.publicKey)) {
      case "waiting": {
        const print = fingerprint(connection.publicKey);
        connection.waiting = hello;
        const reason =
          `The coordinator's owner must let this worker in: volary approve ${hello.name} (its fingerprint is ` +
          `${print}; compare it)`;
        connection.control.send({ type: "waiting", reason });
        return this.onevent({ event: "waiting", worker: hello.name, fingerprint: print });
      }
      case "admitted":
        return this.#welcome(connection, hello, await this.turn?.grant(hello.name));
      default:
        return this.#refuse(connection, "The coordinator's owner has revoked this worker.");
    }
  }

  /** Why not under this name, or undefined. */
  async #judge({ publicKey }: Connection, name: string): Promise<string | undefined> {
    if (!goodName.test(name)) {
      return `The name "${name}" cannot be used: take letters, digits, '.', '_' and '-', at most 63, beginning with a ` +
        "letter or a digit (--name).";
    }
    for (const { member, connection } of this.#members.values()) {
      if (!sameBytes(connection.publicKey, publicKey)) continue;
      if (!connection.suspected) {
        return `This worker's key (${fingerprint(publicKey)}) has joined already, as ${member.id}. ` +
          "Every worker needs a key of its own: give this one another file with --key.";
      }
      // It came back before we noticed that it was gone.
      member.close("the same worker has connected again");
      await member.closed;
    }
    return await this.admission.name(publicKey, name);
  }

  #refuse({ control }: Connection, reason: string): void {
    this.onevent({ event: "refused", reason });
    control.send({ type: "refused", reason });
    control.drained(0).then(() => control.close("refused"));
  }

  #welcome(connection: Connection, hello: Hello, turn: Turn | undefined): void {
    const { control, publicKey } = connection, { runtime, admission } = this;
    if (!this.#newcomers.has(connection)) return; // gone meanwhile
    if (this.#members.has(hello.name)) {
      return this.#refuse(
        connection,
        `A worker called ${hello.name} has joined already. Choose another name (--name).`,
      );
    }
    const member: Member = {
      id: hello.name,
      profile: hello.profile,
      onmessage: undefined,
      onpull: undefined,
      send: (message) => void control.send(message),
      drained: (bytes) => control.drained(bytes),
      pull: (request) => control.pull(request),
      delegate: (run) => {
        // With room for clocks that are a little apart.
        const wall = runtime.wall(), to = { run, worker: hello.name, publicKey };
        return delegate(admission.identity, to, wall - limits.clockSkewMs, wall + limits.delegationMs);
      },
      closed: control.closed,
      close: (reason) => control.close(reason),
    };
    control.maxBytes = limits.messageBytes;
    control.onmessage = (message) => member.onmessage?.(message);
    control.onpull = (request) => {
      if (member.onpull) return member.onpull(request);
      return Promise.reject(new Error("there is no plan that gives it to this worker"));
    };
    this.#newcomers.delete(connection);
    this.#members.set(member.id, { member, connection });
    control.closed.then((reason) => {
      this.#members.delete(member.id);
      this.onevent({ event: "left", worker: member.id, reason });
    });
    member.send({
      type: "welcome",
      id: member.id,
      run: admission.mesh,
      ...(turn === undefined ? {} : { turn }),
    });
    if (turn !== undefined) this.#renew(member);
    const { deviceName, flops } = hello.profile;
    this.onevent({ event: "joined", worker: member.id, device: deviceName, flops });
  }

  /** Sends a member another name for the TURN server before the one it has ends. */
  #renew(member: Member): void {
    const timer = this.runtime.timer(limits.turnMs / 2, async () => {
      member.send({ type: "turn", turn: await this.turn!.grant(member.id) });
      if (this.#members.get(member.id)?.member === member) this.#renew(member);
    });
    member.closed.then(() => timer.cancel());
  }
}
