/** A coordinator's door in memory on a virtual clock, and workers that knock at it. */
import type { MemberEvent } from "../../coordinator/member.ts";
import { Admission, type AdmissionOptions, type InviteTerms } from "../../coordinator/admission/admission.ts";
import { Membership } from "../../coordinator/admission/membership.ts";
import type { TurnGrants } from "../../coordinator/admission/turn_grants.ts";
import { decodeMessage, encodeMessage } from "../../mesh/control/codec.ts";
import { applyToCoordinator } from "../../mesh/control/handshake_control.ts";
import { type Identity, newIdentity } from "../../mesh/identity/identity.ts";
import { type Invite, parseInvite } from "../../mesh/identity/invite.ts";
import { type MemoryChannel, memoryChannelPair } from "../../mesh/transports/memory_transport.ts";
import { FromCoordinator } from "../../mesh/control/messages.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

const profile = {
  device: "reference",
  deviceName: "d",
  flops: 1,
  bandwidth: 1,
  memory: 1,
  maxBinding: 1,
};
export const hello = (name: string) => ({ type: "hello", software: "t", name, profile });

/** What came of a knock. */
export interface Knock {
  /** Why the handshake failed, or the coordinator's verdict was no. */
  readonly refused?: string;
  readonly heard: FromCoordinator[];
  readonly channel: MemoryChannel;
}

export async function door(
  options: Partial<AdmissionOptions> = {},
  turn?: (clock: VirtualClock) => TurnGrants,
) {
  const clock = new VirtualClock(3), events: MemberEvent[] = [];
  const identity = options.identity ?? await newIdentity();
  const admission = await Admission.open({ runtime: clock, mesh: "m", ...options, identity });
  const membership = new Membership(clock, admission, (event) => events.push(event), turn?.(clock));
  const invite = async (terms: InviteTerms = { uses: 100 }) =>
    parseInvite(await admission.invite("ws://memory", terms));
  /** A connection on which nothing was said. */
  const open = () => {
    const [ours, theirs] = memoryChannelPair();
    membership.admit(ours);
    return theirs;
  };
  /** Shows who it is, and says hello where a name is given. */
  const knock = async (invite: Invite, worker: Identity, name?: string): Promise<Knock> => {
    const channel = open(), heard: FromCoordinator[] = [];
    let refused: string | undefined;
    try {
      refused = await clock.until(
        applyToCoordinator(channel, invite, { clock, chance: clock, identity: worker }),
      );
    } catch (error) {
      refused = (error as Error).message;
    }
    if (refused !== undefined) {
      channel.close("refused"); // as a worker does
      return { refused, heard, channel };
    }
    channel.onmessage = (bytes) => heard.push(decodeMessage(FromCoordinator, bytes));
    if (name !== undefined) channel.send(encodeMessage(hello(name)));
    await clock.pass(1);
    return { heard, channel };
  };
  return { clock, events, membership, admission, identity, invite, open, knock };
}

/** What it was told but for signs of life. */
export function said({ heard }: Knock): FromCoordinator[] {
  return heard.filter(({ type }) => type !== "ping" && type !== "pong");
}
