/**
 * What a run's workers write tensors in on each link of a plan.
 *
 * @module
 */
import { links, type Plan } from "../../mesh/plan.ts";
import type { Codec } from "../../mesh/tensors/tensor_codec.ts";
import { PlanInfeasible } from "../errors.ts";
import { namedCodecs } from "../cost/plan_codecs.ts";
import type { Candidate, PlanRequest } from "./plan_request.ts";
import { quickestCodec } from "../cost/traffic.ts";

/** Bytes a second of links of which nothing is known: what one connection of WebRTC in TypeScript carries on loopback. */
export const unknownBandwidth = 12e6;

/**
 * The codec that the recipe names on every link, or of several the quickest that both ends offer. Throws
 * {@linkcode PlanInfeasible} where a worker cannot write and read what it must.
 */
export function codecsOf(
  { codec = "f32", link }: Pick<PlanRequest, "codec" | "link">,
  members: readonly Candidate[],
  plan: Pick<Plan, "pipelines" | "owners" | "operations">,
): Pick<Plan, "codecs"> {
  const permitted = typeof codec === "string" ? [codec] : codec;
  const offers = ({ profile }: Candidate) => permitted.filter((one) => offered(profile.codecs, one));
  const unable = members.find((member) => offers(member).length === 0);
  if (unable !== undefined) {
    throw new PlanInfeasible(
      `The recipe wants ${permitted.join(" or ")} between workers, which ${unable.id} cannot write or ` +
        `read (it offers ${unable.profile.codecs?.join(", ") || "f32"}): set [mesh] codec to one that ` +
        "every worker offers.",
    );
  }
  const byId = new Map(members.map((member) => [member.id, member]));
  return namedCodecs(links(plan), (a, b) => {
    const ends = [byId.get(a)!, byId.get(b)!];
    const both = offers(ends[0]).filter((one) => offers(ends[1]).includes(one));
    if (both.length === 0) {
      throw new PlanInfeasible(
        `The recipe wants ${permitted.join(" or ")} between workers, but ${a} and ${b} offer none of ` +
          `them both: add "f32" to [mesh] codec.`,
      );
    }
    const rate = Math.min(
      link?.(a, b)?.bandwidth ?? unknownBandwidth,
      ...ends.map(({ profile }) => profile.lent?.sending ?? Infinity),
    );
    return quickestCodec(both, rate);
  });
}

function offered(codecs: readonly Codec[] | undefined, codec: Codec): boolean {
  return codec === "f32" || codecs?.includes(codec) === true;
}
