/**
 * The codecs that a plan names for its links.
 *
 * @module
 */
import { type LinkCodec, links, type Plan } from "../../mesh/plan.ts";
import type { Cluster } from "./cluster.ts";
import { type Codec, linkCodecs } from "./traffic.ts";

/** A plan with the codec of each of its links, where that is not f32. */
export function withCodecs(plan: Plan, cluster: Cluster, codec: Codec | readonly Codec[] = "f32"): Plan {
  const { codecs: _, ...rest } = plan;
  const places = new Map(cluster.workers.map(({ id }, place) => [id, place]));
  const codecOf = linkCodecs(cluster, codec);
  return {
    ...rest,
    ...namedCodecs(links(plan), (a, b) => codecOf(places.get(a)!, places.get(b)!)),
  };
}

/** The field of a plan: links whose codec is f32 are left out, and the field where all are. */
export function namedCodecs(
  pairs: readonly [string, string][],
  codecOf: (a: string, b: string) => Codec,
): Pick<Plan, "codecs"> {
  const codecs = pairs.map((workers): LinkCodec => ({ workers, codec: codecOf(...workers) }))
    .filter(({ codec }) => codec !== "f32");
  return codecs.length === 0 ? {} : { codecs };
}
