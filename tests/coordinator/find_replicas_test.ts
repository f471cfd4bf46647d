import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { type Cluster, uniformCluster } from "../../coordinator/cluster.ts";
import { Judge, type Part } from "../../coordinator/division.ts";
import { stagesOf } from "../../coordinator/find_plan.ts";
import { findReplicas } from "../../coordinator/find_replicas.ts";
import { shareOwnership } from "../../coordinator/holdings.ts";
import { schedulePlan } from "../../coordinator/schedule.ts";
import { simulatePlan } from "../../coordinator/simulate_plan.ts";
import { Plan } from "../../mesh/plan.ts";
import { configToJson, parseConfig } from "../../model/config.ts";
import { type RandomStream, randomStream } from "../../model/random.ts";

function model(layers: number, experts: number) {
  return parseConfig({
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 300,
    ...(experts > 0 ? { num_local_experts: experts, num_experts_per_tok: 1 } : {}),
  });
}

function randomCluster(random: RandomStream, count: number): Cluster {
  const spread = (low: number, high: number) => low * (high / low) ** random.uniform();
  const workers = Array.from({ length: count }, (_, i) => ({
    id: `w${i}`,
    profile: {
      flops: spread(1e9, 16e9),
      bandwidth: spread(1e9, 4e9),
      memory: spread(1e6, 3e7),
      deviceName: "",
    },
    up: Infinity,
    down: Infinity,
  }));
  const links = workers.map(() =>
    workers.map(() => ({ latency: spread(1e-4, 5e-3), bandwidth: spread(1e7, 1e10) }))
  );
  return { name: "random", workers, link: (a, b) => links[Math.min(a, b)][Math.max(a, b)], changes: [] };
}

/** All divisions of a model over some workers, layer by layer. */
function everything(workers: number, layers: number, experts: number): Part[][] {
  const found: Part[][] = [];
  const grow = (parts: readonly Part[], left: number) => {
    if (left > 0) {
      for (let worker = 0; worker < workers; worker++) {
        if (parts.some((part) => part.worker === worker)) continue;
        for (let span = 1; span <= left; span++) {
          grow([...parts, { worker, layers: span, remote: [] }], left - span);
        }
      }
      return;
    }
    const free = Array.from({ length: workers }, (_, w) => w).filter((w) =>
      !parts.some((p) => p.worker === w)
    );
    let all: Part[][] = [[]];
    for (const part of parts) {
      const choices: Part[] = [];
      for (let code = 0; code < (experts + 1) ** free.length; code++) {
        const digits = free.map((_, i) => Math.floor(code / (experts + 1) ** i) % (experts + 1));
        if (digits.reduce((a, b) => a + b, 0) > experts) continue;
        const remote = free.flatMap((w, i) => digits[i] > 0 ? [[w, digits[i]] as const] : []);
        choices.push({ ...part, remote });
      }
      all = all.flatMap((before) => choices.map((choice) => [...before, choice]));
    }
    found.push(...all);
  };
  grow([], layers);
  return found;
}

/** The best of all plans with two pipelines or more: each worker in one of them or in none, any shares, any divisions. */
function exhaustive(request: Parameters<typeof findReplicas>[0]): number {
  const { config, cluster, shape, recompute, run, generation } = request, n = cluster.workers.length;
  let best = Infinity;
  for (let count = 2; count <= Math.min(n, shape.microbatches); count++) {
    for (let code = 0; code < (count + 1) ** n; code++) {
      const place = Array.from({ length: n }, (_, w) => Math.floor(code / (count + 1) ** w) % (count + 1));
      const teams = Array.from(
        { length: count },
        (_, t) => cluster.workers.flatMap((_, w) => place[w] === t ? [w] : []),
      );
      if (teams.some((team) => team.length === 0)) continue;
      for (let cut = 0; cut < shape.microbatches ** count; cut++) {
        const shares = teams.map((_, t) => Math.floor(cut / shape.microbatches ** t) % shape.microbatches);
        if (shares.includes(0) || shares.reduce((a, b) => a + b, 0) !== shape.microbatches) continue;
        let plans: Plan["pipelines"][] = [[]];
        teams.forEach((team, t) => {
          const part = {
            ...cluster,
            workers: team.map((w) => cluster.workers[w]),
            link: (a: number, b: number) => cluster.link(team[a], team[b]),
          };
          const setting = { config, cluster: part, shape: { ...shape, microbatches: shares[t] }, recompute };
          const judge = new Judge({ ...setting, codec: "f32" });
          const fitting = everything(team.length, config.layers, config.experts)
            .filter((division) => judge.shortage(division) === 0);
          plans = plans.flatMap((before) =>
            fitting.map((division) => [
              ...before,
              { shares: [shares[t]], stages: stagesOf({ config, cluster: part }, division) },
            ])
          );
        });
        for (const pipelines of plans) {
          const plan: Plan = {
            run,
            generation,
            model: configToJson(config),
            shape,
            pipelines,
            owners: shareOwnership(config, count),
            recompute,
            operations: schedulePlan(pipelines, config.tiedEmbeddings),
          };
          best = Math.min(best, simulatePlan(plan, cluster).seconds);
        }
      }
    }
  }
  return best;
}

Deno.test("replicas are as quick as the best of all groups, shares and divisions, on random clusters", () => {
  const random = randomStream(7, "replicas");
  let some = 0, unequal = 0, none = 0;
  for (let round = 0; round < 60; round++) {
    const moe = round % 4 === 3, count = 2 + random.integer(2), layers = 1 + random.integer(moe ? 2 : 3);
    const request = {
      run: "r",
      generation: 1,
      config: model(layers, moe ? 2 : 0),
      cluster: randomCluster(random, count),
      shape: { batch: 1, sequence: 32, microbatches: 2 + random.integer(3) },
      recompute: false,
    };
    const best = exhaustive(request), found = findReplicas(request);
    if (best === Infinity) {
      assertEquals(found, undefined);
      none++;
      continue;
    }
    assert(found!.exact);
    assertAlmostEquals(found!.seconds / best, 1, 1e-9, `cluster ${round}`);
    assertEquals(simulatePlan(found!.plan, request.cluster).seconds, found!.seconds);
    Plan.parse(found!.plan);
    some++;
    if (new Set(found!.plan.pipelines.map(({ shares }) => shares[0])).size > 1) unequal++;
  }
  assert(some > 20 && unequal > 5 && none > 0, `${some} ${unequal} ${none}`);
});

Deno.test("sixteen workers are dealt in a moment, and equal ones get equal shares", () => {
  const profile = { flops: 1e11, bandwidth: 1e11, memory: 1e9, deviceName: "" };
  const workers = Array.from({ length: 16 }, (_, i) => ({ id: `w${i}`, profile }));
  const cluster = uniformCluster("c", workers, { latency: 1e-4, bandwidth: 1e10 });
  const shape = { batch: 1, sequence: 128, microbatches: 16 };
  const found = findReplicas({
    run: "r",
    generation: 1,
    config: model(4, 0),
    cluster,
    shape,
    recompute: false,
  })!;
  assertEquals(found.exact, false);
  assertEquals(new Set(found.plan.pipelines.map(({ shares }) => shares[0])).size, 1);
});
