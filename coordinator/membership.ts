/**
 * Who belongs to the mesh. A stranger may say hello and nothing else; only who shows the secret, speaks our version and
 * has a name of its own becomes a member.
 *
 * @module
 */
import { z } from "zod";
import { decodeMessage, encodeMessage } from "../mesh/codec.ts";
import { control as openControl } from "../mesh/control.ts";
import { limits } from "../mesh/limits.ts";
import { type FromCoordinator, FromWorker, PROTOCOL_VERSION } from "../mesh/messages.ts";
import type { Channel, Clock, Runtime } from "../mesh/runtime.ts";
import type { MemberEvent } from "./coordinator.ts";
import type { Member } from "./member.ts";

/** What a newcomer is measured against. */
export interface Admission {
  /** Whether a secret is the invite's; takes the same time for every wrong one. */
  readonly matches: (secret: string) => boolean | Promise<boolean>;
  /** When the invite ends, in ms since 1970; undefined: never. */
  readonly expires: () => number | undefined;
  /** Names this mesh in the welcome. */
  readonly mesh: string;
}

/** Connections that have not said hello yet, at one time: a room full of people, not a flood. */
export const MOST_STRANGERS = 64;
/** Time for a hello, in ms: a worker opens its device and measures it before it speaks. */
export const HELLO_MS = 60_000;
/** Members of one mesh: the planner's largest case. */
export const MOST_MEMBERS = 4_096;

/** Names that are safe in plans, tables and paths. */
const goodName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** What a hello of any version has, so that another version can be told which. */
const AnyHello = z.looseObject({ type: z.literal("hello"), protocol: z.int() });
const Ping = z.strictObject({ type: z.literal("ping"), id: z.int().min(0).max(0xffff_ffff) });
const Pong = z.strictObject({ type: z.literal("pong"), id: z.int().min(0).max(0xffff_ffff) });
const FromStranger = z.discriminatedUnion("type", [AnyHello, Ping, Pong]);
type Hello = Extract<FromWorker, { type: "hello" }>;

/** See the module's description. */
export class Membership {
  readonly #members = new Map<string, Member>();
  readonly #strangers = new Set<Channel>();
  #closed: string | undefined;

  constructor(
    private readonly runtime: Pick<Runtime, keyof Clock>,
    private readonly admission: Admission,
    private readonly onevent: (event: MemberEvent) => void,
  ) {}

  /** In the order in which they joined. */
  get members(): readonly Member[] {
    return [...this.#members.values()];
  }

  /** Listens to a stranger until it is a member or gone. */
  admit(channel: Channel): void {
    if (this.#closed !== undefined) return channel.close(this.#closed);
    if (this.#strangers.size >= MOST_STRANGERS) {
      return channel.close("too many connections that did not say hello");
    }
    this.#strangers.add(channel);
    const timer = this.runtime.timer(HELLO_MS, () => channel.close("no hello came in time"));
    const done = () => {
      timer.cancel();
      this.#strangers.delete(channel);
    };
    channel.closed.then(done);
    let greeted = false, gone = false;
    channel.closed.then(() => gone = true);
    channel.onmessage = (bytes) => {
      try {
        const message = decodeMessage(FromStranger, bytes, limits.strangerBytes);
        if (message.type === "ping") return channel.send(encodeMessage({ type: "pong", id: message.id }));
        if (message.type === "pong") return;
        if (greeted) return channel.close("said hello twice"); // the first is still being judged
        greeted = true;
        const refused = message.protocol === PROTOCOL_VERSION ? undefined : otherVersion(message.protocol);
        if (refused) return this.#refuse(channel, refused);
        const hello = decodeMessage(FromWorker, bytes, limits.strangerBytes) as Hello;
        this.#judge(hello).then((reason) => {
          done();
          if (gone) return;
          if (reason) this.#refuse(channel, reason);
          else this.#welcome(channel, hello);
        });
      } catch (error) {
        channel.close(error instanceof Error ? error.message : "not understood");
      }
    };
  }

  /** Closes all connections, now and later. */
  close(reason: string): void {
    this.#closed = reason;
    for (const stranger of this.#strangers) stranger.close(reason);
    for (const member of this.#members.values()) member.close(reason);
  }

  /** Why not, or undefined: welcome. */
  async #judge(hello: Hello): Promise<string | undefined> {
    // The secret first: who does not know it learns nothing about names and members.
    if (!await this.admission.matches(hello.secret)) {
      return "The invite is not valid here: its secret is wrong. Copy the whole invite that `volary up` printed; each " +
        "start of a coordinator may make a new one.";
    }
    const expires = this.admission.expires();
    if (expires !== undefined && this.runtime.wall() >= expires) {
      return `The invite has expired (${new Date(expires).toISOString()}). Ask for a new one.`;
    }
    if (!goodName.test(hello.name)) {
      return `The name "${hello.name}" cannot be used: take letters, digits, '.', '_' and '-', at most 63, beginning with a ` +
        "letter or a digit (--name).";
    }
    if (this.#members.has(hello.name)) {
      return `A worker called ${hello.name} has joined already. Choose another name (--name).`;
    }
    if (this.#members.size >= MOST_MEMBERS) return `The mesh is full: ${MOST_MEMBERS} workers have joined.`;
    return undefined;
  }

  #refuse(channel: Channel, reason: string): void {
    this.onevent({ event: "refused", reason });
    try {
      channel.send(encodeMessage({ type: "refused", reason } satisfies FromCoordinator));
    } catch {
      // It is gone already.
    }
    channel.drained(0).then(() => channel.close("refused"));
  }

  #welcome(channel: Channel, hello: Hello): void {
    const control = openControl<typeof FromWorker, FromCoordinator>(channel, FromWorker, this.runtime);
    const member: Member = {
      id: hello.name,
      profile: hello.profile,
      onmessage: undefined,
      onpull: undefined,
      send: (message) => void control.send(message),
      drained: (bytes) => control.drained(bytes),
      pull: (request) => control.pull(request),
      closed: control.closed,
      close: (reason) => control.close(reason),
    };
    control.onmessage = (message) => member.onmessage?.(message);
    control.onpull = (request) => {
      if (member.onpull) return member.onpull(request);
      return Promise.reject(new Error("there is no plan that gives it to this worker"));
    };
    this.#members.set(member.id, member);
    control.closed.then((reason) => {
      this.#members.delete(member.id);
      this.onevent({ event: "left", worker: member.id, reason });
    });
    member.send({ type: "welcome", id: member.id, run: this.admission.mesh });
    const { deviceName, flops } = hello.profile;
    this.onevent({ event: "joined", worker: member.id, device: deviceName, flops });
  }
}

function otherVersion(theirs: number): string {
  const upgrade = theirs < PROTOCOL_VERSION
    ? "The worker's program is older: update it (git pull in its clone, or its newer release)."
    : "The coordinator's program is older: update it and start it again.";
  return `The worker speaks protocol ${theirs}, this coordinator ${PROTOCOL_VERSION}. ${upgrade}`;
}
