/**
 * How do SkipPipe's published schedules do beside ours on its twenty workers in twelve regions? Their paths under their own
 * rules (calibration: their published seconds are wanted) and under ours, routes of our own, full pipelines, and the same
 * with workers of unequal speed. Nothing here is timed on this machine: every number is seconds of the virtual clock.
 *
 * --svg=FOLDER also draws pictures; --full searches full pipelines only, --paths everything else, --forward one of the two
 * times of a forward pass, --changes shorter or longer, --as-meant with 1,985 instead of 2 Mbit/s between London and the
 * Netherlands. With --plans=FOLDER full pipelines that were found are kept there and not searched for again, so that a bench
 * which was stopped goes on.
 *
 * @module
 */
import { ganttSvg } from "../../coordinator/simulator/gantt.ts";
import { table } from "../../coordinator/amounts.ts";
import { type Route, routeRound, type RouteRules } from "../../coordinator/routes/route_round.ts";
import { type FoundRoutes, searchPipelines, searchRoutes } from "../../coordinator/routes/route_search.ts";
import type { Timeline } from "../../coordinator/simulator/round.ts";
import type { BenchFlags, BenchOptions } from "../harness/bench.ts";
import {
  forwardSeconds,
  microbatches,
  published,
  publishedSeconds,
  routesOf,
  rulesOf,
  stages,
} from "./skippipe_case.ts";

/** One line for the list of benches. */
export const title = "twenty workers in twelve regions: SkipPipe's published schedules and ours (simulated)";

/** Changes that a search tries for each order of service. */
const CHANGES = 60_000;

/** Searches for a full pipeline from the same start. */
const STARTS = 10;

const WORKERS = 20;

/** A third of the workers takes twice, another third four times as long. */
const slower = Array.from({ length: WORKERS }, (_, worker) => [1, 2, 4][worker % 3]);

interface Answer {
  readonly routes: readonly Route[];
  /** Who holds which stage. */
  readonly places: readonly (readonly number[])[];
  readonly rules: RouteRules;
  readonly seconds: number;
}

interface Line {
  readonly what: string;
  readonly forward: number;
  readonly seconds: number;
  /** What was published for it, where something was. */
  readonly published?: number;
}

/** Under our rules a worker may serve in either order; the better one counts. */
function either(rules: RouteRules, of: (rules: RouteRules) => Omit<Answer, "rules">): Answer {
  const answers = (["arrival", "backward"] as const).map((order) => {
    const ordered = { ...rules, order };
    return { ...of(ordered), rules: ordered };
  });
  return answers[0].seconds <= answers[1].seconds ? answers[0] : answers[1];
}

function round(routes: readonly Route[], places: Answer["places"], rules: RouteRules): Answer {
  return either(
    rules,
    (ordered) => ({ routes, places, seconds: routeRound(WORKERS, routes, ordered).seconds }),
  );
}

/** What a search may change; see coordinator/routes/route_search.ts. */
interface Freedom {
  readonly ordered?: boolean;
  readonly freeStarts?: boolean;
  readonly freePlaces?: boolean;
}

/** The better of searches from several starts. */
function search(
  starts: readonly Pick<Answer, "routes" | "places">[],
  rules: RouteRules,
  freedom: Freedom,
  changes: number,
): Answer {
  const answers = starts.map(({ routes, places }) =>
    either(rules, (given) => {
      const options = { workers: WORKERS, stages: places, rules: given, seed: 1, changes };
      const found = searchRoutes(routes, { ...options, ordered: false, freeStarts: false, ...freedom });
      return { ...found, places: found.stages };
    })
  );
  return answers.reduce((best, answer) => answer.seconds < best.seconds ? answer : best);
}

/** A full pipeline in which places and the numbers of workers of the stages are free; it is kept in the file `known`. */
async function pipeline(rules: RouteRules, changes: number, known?: string): Promise<Answer> {
  const kept = known && await Deno.readTextFile(known).catch(() => undefined);
  const options = { workers: WORKERS, stages, rules, seed: 1, changes, starts: STARTS };
  const found: FoundRoutes = kept ? JSON.parse(kept) : searchPipelines(inTurn(), options);
  if (known && !kept) await Deno.writeTextFile(known, JSON.stringify(found));
  return round(found.routes, found.stages, rules);
}

/** Every microbatch through all stages, workers of a stage in turn. */
function inTurn(): Route[] {
  return Array.from({ length: microbatches }, (_, m) => stages.map((holders) => holders[m % holders.length]));
}

/**
 * No routes in which six microbatches begin at each first worker can be quicker: a worker holds three, so its second three
 * begin when the first are back, one backward pass after another, and no trip is shorter than its shortest.
 */
function bound(rules: RouteRules): number {
  const { forward, backward, head, memory, bytes, link } = rules, per = microbatches / stages[0].length;
  const hop = (a: number, b: number) => link(a, b).latency + bytes / link(a, b).bandwidth;
  let most = 0;
  for (const first of stages[0]) {
    let shortest = Infinity;
    const visit = (route: readonly number[], ways: number, used: readonly number[]) => {
      if (ways >= shortest) return;
      if (route.length === 4) {
        const passes = route.reduce((sum, w) => sum + forward(w) * (1 + backward), 0) + head * forward(first);
        shortest = Math.min(shortest, 2 * (ways + hop(route[3], first)) + passes);
        return;
      }
      stages.forEach((holders, s) => {
        if (used.includes(s)) return;
        for (const w of holders) visit([...route, w], ways + hop(route[route.length - 1], w), [...used, s]);
      });
    };
    visit([first], 0, [0]);
    const waves = per / memory;
    most = Math.max(most, waves * shortest + (waves - 1) * (memory - 1) * backward * forward(first));
  }
  return most;
}

/** Flags besides --json. */
export const flags: BenchFlags = {
  switches: ["full", "paths", "as-meant"],
  texts: { svg: "FOLDER", plans: "FOLDER" },
  choices: { forward: forwardSeconds.map(String) },
  numbers: { changes: CHANGES },
};

/** Runs everything. */
export async function run({ flags, record, print }: BenchOptions): Promise<void> {
  const pictures = flags.text("svg"), fullOnly = flags.has("full"), pathsOnly = flags.has("paths");
  const only = flags.text("forward"), plans = flags.text("plans");
  const asMeant = flags.has("as-meant"), { changes } = flags.numbers({ changes: CHANGES });
  for (const folder of [pictures, plans]) {
    if (folder !== undefined) await Deno.mkdir(folder, { recursive: true });
  }
  const lines: Line[] = [];
  const say = (what: string, forward: number, seconds: number, paper?: number) => {
    const line = { what, forward, seconds, ...(paper === undefined ? {} : { published: paper }) };
    lines.push(line);
    record(line);
  };
  const draw = async (name: string, title: string, { routes, places, rules }: Answer) => {
    if (pictures === undefined) return;
    const { seconds, spans } = routeRound(WORKERS, routes, rules);
    const workers = Array.from({ length: WORKERS }, (_, w) => {
      const own = spans.filter(({ worker }) => worker === w);
      const busy = own.reduce((sum, { start, end }) => sum + end - start, 0);
      return { busy, first: own[0]?.start ?? 0, last: own.at(-1)?.end ?? 0, sent: 0, received: 0 };
    });
    const timeline: Timeline = { seconds, workers, traffic: new Map(), spans };
    const stageOf = (w: number) => places.findIndex((holders) => holders.includes(w)) + 1;
    const names = workers.map((_, w) => `stage ${stageOf(w)}, worker ${w}`), rows = places.flat();
    await Deno.writeTextFile(`${pictures}/${name}.svg`, ganttSvg(timeline, { title, names, rows }));
  };
  /** A plan made for equal workers and one made for unequal ones, both on unequal workers. */
  const onUnequal = async (
    what: string,
    i: number,
    plan: Answer,
    of: (rules: RouteRules) => Answer | Promise<Answer>,
  ) => {
    const forward = forwardSeconds[i], unequal = await rulesOf("ours", forward, slower, asMeant);
    const blind = round(plan.routes, plan.places, unequal), own = await of(unequal);
    say(`speeds 1, 1/2, 1/4: ${what}, planned as if equal`, forward, blind.seconds);
    say(`speeds 1, 1/2, 1/4: ${what}, planned for them`, forward, own.seconds);
    say("  ratio", forward, blind.seconds / own.seconds);
    const name = what === "full pipeline" ? "full" : "skippipe";
    for (const [kind, answer] of [["as-if-equal", blind], ["unequal", own]] as const) {
      const how = kind === "unequal" ? "planned for them" : "planned as if equal";
      await draw(
        `${name}-${kind}-${i}`,
        `${what[0].toUpperCase()}${
          what.slice(1)
        } on unequal workers, ${how}, ${forward} s a forward pass of the ` +
          `fastest: ${answer.seconds.toFixed(2)} s`,
        answer,
      );
    }
  };
  const paths = async (i: number, forward: number) => {
    const theirs = await rulesOf("published", forward, [], asMeant),
      ours = await rulesOf("ours", forward, [], asMeant);
    for (const name of ["conflictAware", "conflictUnaware", "random"] as const) {
      const { seconds } = routeRound(WORKERS, routesOf(published[name]), theirs);
      say(`published rules, published ${name} paths`, forward, seconds, publishedSeconds[name][i]);
    }
    const aware = routesOf(published.conflictAware), start = { routes: aware, places: stages };
    const before = round(aware, stages, ours);
    say("our rules, published conflictAware paths", forward, before.seconds);
    await draw(
      `skippipe-published-${i}`,
      `Published paths, our rules, ${forward} s a forward pass: ${before.seconds.toFixed(2)} s`,
      before,
    );
    say(
      "our rules, our paths, six beginnings at each first worker",
      forward,
      search([start], ours, {}, changes).seconds,
    );
    say("  no such paths can be below", forward, bound(ours));
    const free = search([start], ours, { freeStarts: true }, changes);
    say("our rules, our paths, beginnings free", forward, free.seconds);
    const moved = search([free], ours, { freeStarts: true, freePlaces: true }, changes);
    say("our rules, our paths, beginnings and places free", forward, moved.seconds);
    await draw(
      `skippipe-ours-${i}`,
      `Our paths, our rules, ${forward} s a forward pass: ${free.seconds.toFixed(2)} s`,
      free,
    );
    // Twice as long as for equal ones: there is more to find.
    await onUnequal("our paths", i, free, (rules) => {
      const own = search([free], rules, { freeStarts: true }, changes);
      return search([own], rules, { freeStarts: true }, changes);
    });
  };
  const pipelines = async (i: number, forward: number) => {
    const ours = await rulesOf("ours", forward, [], asMeant);
    const whole = { ordered: true, freeStarts: true };
    const routed = search([{ routes: inTurn(), places: stages }], ours, whole, changes);
    say("our rules, full pipeline, 30 microbatches, published places, free routing", forward, routed.seconds);
    const file = (kind: string) =>
      plans && `${plans}/${kind}-${forward}-${changes}${asMeant ? "-as-meant" : ""}.json`;
    const full = await pipeline(ours, changes, file("equal"));
    say("our rules, full pipeline, 30 microbatches, our places, free routing", forward, full.seconds);
    say("published full pipeline (27 microbatches, 18 workers)", forward, NaN, publishedSeconds.full[i]);
    await draw(
      `full-ours-${i}`,
      `Full pipeline, our rules, ${forward} s a forward pass: ${full.seconds.toFixed(2)} s`,
      full,
    );
    await onUnequal("full pipeline", i, full, (rules) => pipeline(rules, changes, file("unequal")));
  };
  for (const [i, forward] of forwardSeconds.entries()) {
    if (only !== undefined && Number(only) !== forward) continue;
    if (!fullOnly) await paths(i, forward);
    if (!pathsOnly) await pipelines(i, forward);
  }
  const rows = lines.map(({ what, forward, seconds, published }) => [
    `${forward} s`,
    what,
    Number.isNaN(seconds) ? "" : what === "  ratio" ? seconds.toFixed(2) : `${seconds.toFixed(2)} s`,
    published === undefined ? "" : `published ${published} s`,
  ]);
  print(...table(rows));
}
