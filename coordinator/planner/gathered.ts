/**
 * Experts on hosts, gathered: who hosts four experts of a stage may hold one in each of four layers, or four in one. The work
 * and the bytes are the same, but each layer with experts elsewhere costs every pass a trip to its hosts and back.
 *
 * @module
 */
import type { Stage } from "../../mesh/plan.ts";

/** Layers of a stage that have experts elsewhere. */
function asking({ worker, experts }: Stage): number {
  return experts.filter((hosts) => hosts.some((host) => host !== worker)).length;
}

/**
 * The same stages with as many experts on each host, but only in the first `layers` layers of each stage (or as many as hold
 * them), never in more than before. Each of those layers has its share of every host's experts, so that hosts work side by side.
 */
export function gathered(stages: readonly Stage[], layers: number): Stage[] {
  return stages.map((stage) => {
    const { worker, experts } = stage, counts = new Map<string, number>();
    for (const host of experts.flat()) if (host !== worker) counts.set(host, (counts.get(host) ?? 0) + 1);
    // Every host's experts at equal distances from 0 to 1, cut into parts of one size.
    const row = [...counts].flatMap(([host, count]) =>
      Array.from({ length: count }, (_, i) => ({ host, at: (i + 0.5) / count }))
    ).sort((a, b) => a.at - b.at).map(({ host }) => host);
    const most = Math.max(1, ...experts.map((hosts) => hosts.length));
    const used = Math.min(asking(stage), Math.max(layers, Math.ceil(row.length / most)));
    const cut = (layer: number) => Math.round(layer * row.length / used);
    return {
      ...stage,
      experts: experts.map((hosts, layer) => {
        const away = layer < used ? row.slice(cut(layer), cut(layer + 1)).sort() : [];
        return [...new Array<string>(hosts.length - away.length).fill(worker), ...away];
      }),
    };
  });
}

/**
 * `plan`, or what `variant` makes of its pipelines' stages where hosts' experts lie in fewer layers: of those that are predicted
 * to take at most `longer` times as long as the quickest the one with the fewest trips. `variant` answers undefined for what
 * does not fit.
 */
export function withFewerTrips<Plan>(
  plan: Plan,
  pipelines: readonly { readonly stages: readonly Stage[] }[],
  longer: number,
  secondsOf: (plan: Plan) => number,
  variant: (gather: (stages: readonly Stage[]) => Stage[]) => Plan | undefined,
): Plan {
  const tried = [plan];
  const most = Math.max(0, ...pipelines.flatMap(({ stages }) => stages.map(asking)));
  for (let layers = most >> 1; layers > 0; layers >>= 1) {
    const fewer = variant((stages) => gathered(stages, layers));
    if (fewer !== undefined) tried.push(fewer);
  }
  const least = Math.min(...tried.map(secondsOf));
  return tried.findLast((one) => secondsOf(one) <= longer * least)!;
}
