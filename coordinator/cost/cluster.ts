/**
 * Clusters: workers and the links between them, as the planner and the simulator see them. TOML for people.
 *
 * @module
 */
import { parse as parseToml } from "@std/toml";
import { z } from "zod";
import { limits } from "../../mesh/limits.ts";
import type { Profile } from "../../mesh/control/messages.ts";
import { CoordinatorError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import type { LinkSpeed } from "../simulator/round.ts";

/** A cluster file that cannot be used as it stands; the message says where and what would do. */
export class ClusterError extends CoordinatorError {
  override readonly name = "ClusterError";
}

/** A worker as the planner sees it. */
export interface ClusterWorker {
  readonly id: string;
  readonly profile: Pick<Profile, "flops" | "bandwidth" | "launch" | "read" | "memory" | "deviceName">;
  /** Bytes a second in all; Infinity where only the links count. */
  readonly up: number;
  readonly down: number;
}

/** A change of speed while a round runs, for simulations; see the simulator's type. */
export interface ClusterChange {
  readonly at: number;
  /** Ids of one worker, or of the two ends of a link. */
  readonly workers: readonly [string] | readonly [string, string];
  readonly factor: number;
}

/** Workers and links. */
export interface Cluster {
  readonly name: string;
  readonly workers: readonly ClusterWorker[];
  /** The link between the workers at two places of `workers`; undefined where there is none. Both directions are equal. */
  readonly link: (a: number, b: number) => LinkSpeed | undefined;
  readonly changes: readonly ClusterChange[];
}

const speed = z.number().gt(0).refine(Number.isFinite, "must be finite");
const name = z.string().min(1).max(limits.nameLength);
const linkFields = { latency_ms: z.number().min(0).refine(Number.isFinite), bandwidth_mbit: speed };

const Worker = z.strictObject({
  name,
  /** Several equal workers: NAME-1, NAME-2 ... */
  count: z.int().min(1).max(limits.members).default(1),
  device: z.string().min(1).max(limits.textLength).default("(not named)"),
  /** Matrix products: 10^12 floating-point operations a second. */
  tflops: speed,
  /** Device memory: 10^9 bytes a second. */
  memory_gbs: speed,
  /** Device memory that is lent: 2^30 bytes. */
  memory_gib: speed,
  /** Groups workers for links. */
  region: name.optional(),
  /** What the worker's own connection carries in all: 10^6 bits a second. */
  up_mbit: speed.optional(),
  down_mbit: speed.optional(),
});
const Link = z.strictObject({ between: z.tuple([name, name]), ...linkFields });
const ClusterToml = z.strictObject({
  name,
  /** Links that no other section names. */
  network: z.strictObject(linkFields).optional(),
  /** Links inside a region. */
  same_region: z.strictObject(linkFields).optional(),
  worker: z.array(Worker).min(1),
  link: z.array(Link).default([]),
  change: z.array(
    z.strictObject({
      at_s: z.number().min(0),
      worker: name.optional(),
      between: z.tuple([name, name]).optional(),
      /** Times as long as before. */
      slower: speed,
    }),
  ).default([]),
});
type ClusterToml = z.infer<typeof ClusterToml>;

const known: Record<string, readonly string[]> = {
  "": Object.keys(ClusterToml.shape),
  network: Object.keys(linkFields),
  same_region: Object.keys(linkFields),
  worker: Object.keys(Worker.shape),
  link: ["between", ...Object.keys(linkFields)],
  change: ["at_s", "worker", "between", "slower"],
};

/** Reads a cluster file. Throws {@linkcode ClusterError} with everything that is wrong, each with its place. */
export function parseCluster(text: string): Cluster {
  let toml: Record<string, unknown>;
  try {
    toml = parseToml(text);
  } catch (error) {
    throw new ClusterError(`The cluster file is not valid TOML: ${(error as Error).message}`);
  }
  const read = ClusterToml.safeParse(toml);
  if (!read.success) throw new ClusterError(explain(read.error.issues));
  return clusterOf(read.data);
}

function clusterOf(toml: ClusterToml): Cluster {
  const workers: ClusterWorker[] = [], regions: (string | undefined)[] = [], groups: string[] = [];
  for (const entry of toml.worker) {
    for (let i = 1; i <= entry.count; i++) {
      workers.push({
        id: entry.count === 1 ? entry.name : `${entry.name}-${i}`,
        profile: {
          flops: entry.tflops * 1e12,
          bandwidth: entry.memory_gbs * 1e9,
          memory: entry.memory_gib * 2 ** 30,
          deviceName: entry.device,
        },
        up: (entry.up_mbit ?? Infinity) * 1e6 / 8,
        down: (entry.down_mbit ?? Infinity) * 1e6 / 8,
      });
      regions.push(entry.region);
      groups.push(entry.name);
    }
  }
  if (workers.length > limits.members) {
    throw new ClusterError(
      `The cluster has ${workers.length} workers; at most ${limits.members} can be planned for.`,
    );
  }
  const ids = new Map<string, number>();
  workers.forEach(({ id }, i) => {
    if (ids.has(id)) throw new ClusterError(`Two workers are called "${id}": give one another name.`);
    ids.set(id, i);
  });
  const pairs = pairsOf(toml, new Set([...ids.keys(), ...groups, ...regions.filter((r) => r !== undefined)]));
  /** What links may call each worker: its own name, its group's, its region. */
  const names = workers.map(({ id }, w) =>
    [...new Set([id, groups[w], regions[w]])].filter((n) => n !== undefined)
  );
  const same = toml.same_region && speedOf(toml.same_region), other = toml.network && speedOf(toml.network);
  const link = (a: number, b: number): LinkSpeed | undefined => {
    for (const one of names[a]) {
      for (const two of names[b]) {
        const found = pairs.get(pairKey(one, two));
        if (found !== undefined) return found;
      }
    }
    if (same !== undefined && regions[a] !== undefined && regions[a] === regions[b]) return same;
    return other;
  };
  checkConnected(workers, link, other !== undefined);
  const changes = toml.change.map((change, c): ClusterChange => {
    const at = `[[change]] ${c + 1}`;
    const ends = change.between ?? (change.worker === undefined ? [] : [change.worker]);
    if ((change.worker === undefined) === (change.between === undefined)) {
      throw new ClusterError(`${at}: give either worker = "..." or between = ["...", "..."].`);
    }
    for (const end of ends) {
      if (!ids.has(end)) throw new ClusterError(`${at}: there is no worker "${end}"${hint(end, ids.keys())}`);
    }
    return { at: change.at_s, workers: ends as [string] | [string, string], factor: change.slower };
  });
  return { name: toml.name, workers, link, changes };
}

function pairsOf(toml: ClusterToml, names: ReadonlySet<string>): Map<string, LinkSpeed> {
  const pairs = new Map<string, LinkSpeed>();
  toml.link.forEach((link, l) => {
    const at = `[[link]] ${l + 1}`, [a, b] = link.between;
    for (const end of link.between) {
      if (!names.has(end)) {
        throw new ClusterError(`${at}: there is no worker or region "${end}"${hint(end, names)}`);
      }
    }
    if (pairs.has(pairKey(a, b))) {
      throw new ClusterError(`${at}: the link between "${a}" and "${b}" is given twice.`);
    }
    pairs.set(pairKey(a, b), speedOf(link));
  });
  return pairs;
}

function hint(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, [...candidates]);
  return near ? `; did you mean "${near}"?` : ".";
}

function pairKey(a: string, b: string): string {
  return a < b ? `${a}\n${b}` : `${b}\n${a}`;
}

/** Milliseconds and 10^6 bits a second as seconds and bytes a second. */
function speedOf(link: { readonly latency_ms: number; readonly bandwidth_mbit: number }): LinkSpeed {
  return { latency: link.latency_ms / 1e3, bandwidth: link.bandwidth_mbit * 1e6 / 8 };
}

/** Everyone must be reachable from the first worker, over others if need be. */
function checkConnected(workers: readonly ClusterWorker[], link: Cluster["link"], all: boolean): void {
  if (all) return;
  const reached = new Array<boolean>(workers.length).fill(false);
  const queue = [0];
  reached[0] = true;
  for (let a = queue.pop(); a !== undefined; a = queue.pop()) {
    for (let b = 0; b < workers.length; b++) {
      if (reached[b] || link(a, b) === undefined) continue;
      reached[b] = true;
      queue.push(b);
    }
  }
  const missing = workers.filter((_, i) => !reached[i]).map(({ id }) => id);
  if (missing.length === 0) return;
  const more = missing.length > 5 ? ` and ${missing.length - 5} more` : "";
  const alone = missing.length === 1
    ? `worker ${missing[0]} has`
    : `workers ${missing.slice(0, 5).join(", ")}${more} have`;
  throw new ClusterError(
    `The links do not connect all workers: ${alone} no way to ${workers[0].id}. Add a [[link]] between ` +
      "them, or a [network] for all links that are not named.",
  );
}

/** One line for everything that the schema refused. */
function explain(issues: readonly z.core.$ZodIssue[]): string {
  const lines = issues.flatMap((issue) => {
    const [section, ...more] = issue.path.map(String);
    const listed = (section === "worker" || section === "link" || section === "change") && more.length > 0;
    const at = section === undefined
      ? "the file"
      : listed
      ? `[[${section}]] ${Number(more[0]) + 1}`
      : section in known
      ? `[${section}]`
      : section;
    if (issue.code === "unrecognized_keys") {
      const names = known[section ?? ""] ?? [];
      return issue.keys.map((key) => {
        const near = nearest(key, names);
        return `${at}: there is no key ` +
          `"${key}"${near ? `; did you mean "${near}"?` : `. Known: ${names.join(", ")}.`}`;
      });
    }
    const key = (listed ? more.slice(1) : more).join(".");
    const missing = issue.code === "invalid_type" && issue.input === undefined;
    const message = missing ? "is missing" : issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
    return [`${at}${key ? `: ${key}` : ""}${missing ? " " : ": "}${message}.`];
  });
  return `The cluster file cannot be used. ${lines.join(" ")}`;
}

/** Some workers of a cluster, by place, as one of their own; nothing changes in it. */
export function partOf(cluster: Cluster, team: readonly number[]): Cluster {
  return {
    ...cluster,
    workers: team.map((w) => cluster.workers[w]),
    link: (a, b) => cluster.link(team[a], team[b]),
    changes: [],
  };
}

/** A cluster of equal links, for workers whose network is not known. */
export function uniformCluster(
  name: string,
  workers: readonly (Pick<ClusterWorker, "id" | "profile">)[],
  link: LinkSpeed,
): Cluster {
  return {
    name,
    workers: workers.map((worker) => ({ ...worker, up: Infinity, down: Infinity })),
    link: () => link,
    changes: [],
  };
}
