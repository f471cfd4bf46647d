import { assertEquals } from "@std/assert";
import { openDevice } from "../../kernels/mod.ts";
import { KnownSpeeds } from "../../worker/known_speeds.ts";
import { LocalCompute } from "../../worker/local_compute.ts";

const speed = { flops: 2e9, bandwidth: 3e9, launch: 1e-6, read: 2e-5 };

Deno.test("a device whose speed is known is not measured again", async () => {
  const device = await openDevice({ kind: "reference" });
  const told: string[] = [];
  const first = new KnownSpeeds({ beside: "one thread" }, "runtime 1", (text) => told.push(text));
  assertEquals(first.find(device.info), undefined);
  first.keep(device.info, speed);
  const speeds = new KnownSpeeds({ known: told[0], beside: "one thread" }, "runtime 1", () => {
    throw new Error("nothing new was measured");
  });
  const compute = new LocalCompute({
    device,
    exchanger: () => Promise.reject(new Error("alone")),
    now: () => {
      throw new Error("the clock was read");
    },
    memory: 1 << 20,
    speeds,
  });
  const { flops, bandwidth, launch, read } = await compute.profile();
  assertEquals({ flops, bandwidth, launch, read }, speed);
  compute.close();
});

Deno.test("a speed counts for its device, runtime and surroundings only", async () => {
  const device = await openDevice({ kind: "reference" });
  let known = "";
  new KnownSpeeds({ beside: "a" }, "runtime 1", (text) => known = text).keep(device.info, speed);
  const found = (beside: string, runtime: string, name = device.info.name) =>
    new KnownSpeeds({ known, beside }, runtime, () => {}).find({ ...device.info, name });
  assertEquals(found("a", "runtime 1"), speed);
  assertEquals([found("b", "runtime 1"), found("a", "runtime 2"), found("a", "runtime 1", "another")], [
    undefined,
    undefined,
    undefined,
  ]);
  device.close();
});

Deno.test("text that makes no sense is left aside", async () => {
  const device = await openDevice({ kind: "reference" });
  let good = "";
  new KnownSpeeds({ beside: "" }, "", (text) => good = text).keep(device.info, speed);
  const key = Object.keys(JSON.parse(good))[0];
  for (
    const known of [
      "{",
      "null",
      "[1]",
      JSON.stringify({ [key]: null }),
      JSON.stringify({ [key]: { ...speed, flops: 0 } }),
      JSON.stringify({ [key]: { ...speed, read: "fast" } }),
      JSON.stringify({ [key]: { flops: 1 } }),
    ]
  ) assertEquals(new KnownSpeeds({ known, beside: "" }, "", () => {}).find(device.info), undefined, known);
  device.close();
});
