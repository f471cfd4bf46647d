import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { denoRuntime } from "../../mesh/deno_runtime.ts";
import { LinkError } from "../../mesh/errors.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { clean } from "../compliance/clean.ts";

Deno.test(
  "virtual time: timers fire in order of time, then of creation; cancelled ones never",
  clean,
  async () => {
    const clock = new VirtualClock(), fired: string[] = [];
    clock.timer(20, () => fired.push("c"));
    clock.timer(10, () => {
      fired.push("a");
      clock.timer(0, () => fired.push("a2"));
      Promise.resolve().then(() => Promise.resolve()).then(() => fired.push("promise"));
    });
    clock.timer(10, () => fired.push("b"));
    clock.timer(15, () => fired.push("never")).cancel();
    await clock.pass(19);
    assertEquals([clock.now(), ...fired], [19, "a", "promise", "b", "a2"]);
    await clock.idle(5);
    assertEquals(fired.at(-1), "c");
    assertEquals(clock.wall(), Date.UTC(2026, 0, 1) + 20);
  },
);

Deno.test("virtual time: a thousand timers in any order", clean, async () => {
  const clock = new VirtualClock(3), at: number[] = [];
  for (let i = 0; i < 1_000; i++) clock.timer(Math.floor(clock.uniform() * 500), () => at.push(clock.now()));
  await clock.idle(1_000);
  assertEquals(at, at.toSorted((a, b) => a - b));
  assertEquals(at.length, 1_000);
});

Deno.test("virtual time: waiting for what cannot happen says so, endless timers too", clean, async () => {
  const clock = new VirtualClock();
  await assertRejects(() => clock.until(new Promise(() => {})), LinkError, "Nothing is left");
  const again = () => void clock.timer(10, again);
  again();
  await assertRejects(() => clock.idle(1_000), LinkError, "still left");
  await assertRejects(() => clock.until(Promise.reject(new Error("its own"))), Error, "its own");
});

Deno.test("a seed gives the same chance again", clean, () => {
  const draw = (seed: number) => [...new VirtualClock(seed).random(16)];
  assertEquals(draw(4), draw(4));
  assert(draw(4).join() !== draw(5).join());
});

Deno.test("storage: ranges, sizes, renames, folders", clean, async () => {
  const { storage } = denoRuntime(), folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "x", "file");
    assertEquals(await storage.size(path), undefined);
    await storage.makeFolder(join(folder, "x"));
    await storage.write(path, 4, Uint8Array.of(5, 6, 7));
    await storage.write(path, 0, Uint8Array.of(1, 2));
    await storage.sync(path);
    await storage.sync(join(folder, "x"));
    assertEquals(await storage.size(path), 7);
    assertEquals([...await storage.read(path, 1, 6)], [2, 0, 0, 5, 6]);
    assertEquals((await storage.read(path, 3, 3)).length, 0);
    await assertRejects(() => storage.read(path, 5, 9), RangeError, "ends at 7");
    await storage.write(join(folder, "other"), 0, Uint8Array.of(9));
    await storage.rename(path, join(folder, "other"));
    assertEquals(await storage.size(join(folder, "other")), 7);
    assertEquals(await storage.list(folder), ["other", "x"]);
    await storage.remove(join(folder, "x"));
    assertEquals(await storage.list(folder), ["other"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("real time: timers fire once, cancelled ones never; chance differs", clean, async () => {
  const runtime = denoRuntime();
  let fired = 0;
  const timer = runtime.timer(0, () => fired += 10);
  timer.cancel();
  const before = runtime.now();
  await new Promise<void>((resolve) =>
    runtime.timer(1, () => {
      fired++;
      resolve();
    })
  );
  assertEquals(fired, 1);
  assert(runtime.now() > before);
  assert(runtime.random(16).join() !== runtime.random(16).join());
});
