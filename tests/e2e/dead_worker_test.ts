/** A worker that is killed: its control connection is reset, so the coordinator knows at once. */
import { assert, assertEquals } from "@std/assert";
import { type Running, volary } from "../../demo/processes.ts";
import { firstEvent, joinArguments } from "../running.ts";

Deno.test("a worker that is killed is noticed within a second", async () => {
  const state = await Deno.makeTempDir(), started: Running[] = [];
  const start = (name: string, args: readonly string[]) => {
    const running = volary(name, args);
    started.push(running);
    return running;
  };
  try {
    const up = start("up", ["up", "--port", "0", "--state", state]);
    const { invite } = await firstEvent(up, "up");
    const worker = start("worker", joinArguments(invite, "short-lived", state));
    (async () => {
      for await (const _ of worker.events); // nobody else reads it
    })();
    assertEquals((await firstEvent(up, "joined")).worker, "short-lived");
    const killed = Date.now();
    Deno.kill(worker.pid, "SIGKILL");
    assertEquals((await firstEvent(up, "left")).worker, "short-lived");
    const ms = Date.now() - killed;
    assert(ms < 1_000, `noticed after ${ms} ms`);
  } finally {
    await Promise.all(started.map((running) => running.end()));
    await Deno.remove(state, { recursive: true });
  }
});
