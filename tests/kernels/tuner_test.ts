import { assert, assertEquals } from "@std/assert";
import {
  type DeviceInfo,
  groupedTN,
  type Kernel,
  matmulNT,
  matmulTN,
  OutOfMemoryError,
  part,
  referenceDevice,
  rmsNorm,
  webgpuDevice,
} from "../../kernels/mod.ts";
import { type BenchMaker, Tuner } from "../../kernels/webgpu/tuner.ts";
import { numbers } from "./products.ts";

const info: DeviceInfo = { ...referenceDevice().info, name: "adapter", subgroup: 8 };
const kernel = matmulNT as unknown as Kernel;
const large = { m: 512, n: 512, k: 512, accumulate: 0 };
const small = { m: 32, n: 32, k: 32, accumulate: 0 };

/** Times that a variant is said to take, and the variants that were timed, in order. */
function maker(times: (variant: string) => number): BenchMaker & { readonly timed: string[]; open: number } {
  const timed: string[] = [];
  const make = Object.assign(() => {
    make.open++;
    return {
      time(variant: string, calls: number) {
        timed.push(variant);
        return Promise.resolve(times(variant) * calls);
      },
      release: () => void make.open--,
    };
  }, { timed, open: 0 });
  return make;
}

Deno.test("The fastest size is taken, for all kernels and endings of its class, largest calls first", async () => {
  let text = "";
  const tuner = new Tuner(info, "runtime 1", { changed: (known) => text = known });
  assertEquals(tuner.choice(kernel, small), undefined);
  assertEquals(tuner.choice(kernel, large), undefined);
  assert(tuner.wanting);
  const make = maker((variant) => variant.includes("32x4") ? 1 : 2);
  assert(await tuner.measureNext(make));
  assertEquals(make.open, 0);
  assertEquals(tuner.choice(kernel, large), "together 32x4 vvv set");
  assertEquals(tuner.choice(kernel, { ...large, m: 500, accumulate: 1 }), "together 32x4 vvv accumulate");
  assertEquals(tuner.choice(kernel, small), undefined);
  assertEquals(
    tuner.choice(matmulTN as unknown as Kernel, large),
    undefined,
    "another layout is another class",
  );
  assertEquals(tuner.choice(rmsNorm as unknown as Kernel, {}), undefined);

  const later = new Tuner(info, "runtime 1", { known: text });
  assertEquals(later.choice(kernel, large), "together 32x4 vvv set");
  for (
    const other of [
      new Tuner(info, "runtime 2", { known: text }),
      new Tuner({ ...info, name: "b" }, "runtime 1", { known: text }),
    ]
  ) {
    assertEquals(
      other.choice(kernel, large),
      undefined,
      "what another adapter or runtime measured says nothing",
    );
  }
});

Deno.test("A kernel's own preference stays where nothing is clearly faster", async () => {
  const preferred = kernel.prefer!(large, info);
  const tuner = new Tuner(info, "", {});
  const size = await tuner.measure(kernel, large, maker((variant) => variant === preferred ? 1 : 0.98));
  assertEquals(kernel.tuning!.variant(size!, large), preferred);
});

Deno.test("A size that was disturbed at first is timed again beside the best", async () => {
  let timings = 0;
  const disturbed = (variant: string) => {
    if (!variant.includes("32x4")) return variant.includes("16x4") ? 1 : 2;
    return timings++ < 14 ? 1.1 : 0.9;
  };
  const size = await new Tuner(info, "", {}).measure(kernel, large, maker(disturbed));
  assertEquals(size, "together 32x4");
});

Deno.test("Sizes that take long to compile are measured for large calls only", () => {
  const tried = (m: number) => kernel.tuning!.sizes({ ...large, m }, info).includes("together 40x8");
  assert(tried(512));
  assert(!tried(40));
});

Deno.test("Without time or memory nothing is decided, and the work goes on", async () => {
  const spent = new Tuner(info, "", { milliseconds: 0 });
  spent.choice(kernel, large);
  assert(!spent.wanting);
  const short = new Tuner(info, "", { milliseconds: 1e-9 });
  short.choice(kernel, large);
  assert(short.wanting);
  assertEquals(await short.measureNext(maker(() => 1)), false);
  assert(!short.wanting);
  const poor = new Tuner(info, "", {});
  poor.choice(kernel, large);
  assertEquals(
    await poor.measureNext(() => {
      throw new OutOfMemoryError("full");
    }),
    false,
  );
  assert(!poor.wanting, "it is not tried again and again");
});

Deno.test("A cache that is broken, or names sizes of another version, is left aside", () => {
  const key = "adapter; ; ; 8; r";
  for (
    const known of [
      "",
      "{",
      "[]",
      "null",
      '{"x":1}',
      `{"${key}":{"nt 512x512x512 vvv":"99x99"}}`,
      `{"${key}":7}`,
    ]
  ) {
    assertEquals(new Tuner(info, "r", { known }).choice(kernel, large), undefined);
  }
  const known = `{"${key}":{"nt 512x512x512 vvv":"4x4"}}`;
  assertEquals(new Tuner(info, "r", { known }).choice(kernel, large), "4x4 vvv set");
});

Deno.test("Samples have the loading of what they stand for, few products, and bindings that fit", () => {
  for (
    const [m, n, k] of [[4096, 11008, 4096], [512, 512, 512], [1024, 259, 96], [3, 5, 7], [1, 100_000, 64]]
  ) {
    const { values, words } = kernel.tuning!.sample({ m, n, k, accumulate: 1 }, info);
    assert(values.m * values.n * values.k <= 2 ** 23, JSON.stringify(values));
    assertEquals([values.m % 4, values.n % 4, values.k % 4], [m % 4, n % 4, k % 4]);
    assertEquals(words, { a: values.m * values.k, b: values.n * values.k, c: values.m * values.n });
  }
  const { values, words } = groupedTN.tuning!.sample(
    { rows: 4096, m: 768, n: 128, first: 3, groups: 16, accumulate: 1 },
    info,
  );
  assertEquals(values.first, 0);
  assertEquals(words.c, values.m * values.n * values.groups);
  const offsets = words.offsets as Uint32Array;
  assertEquals([offsets.length, offsets[0], offsets.at(-1)], [values.groups + 1, 0, values.rows]);
  assert(offsets.every((offset, i) => i === 0 || offset >= offsets[i - 1]));
});

Deno.test("A device that tunes while it works computes the same bits, and tells what it found", async () => {
  const [m, n, k] = [96, 80, 64];
  const a = numbers(m * k, 1), b = numbers(n * k, 2);
  let text = "";
  const device = await webgpuDevice({ tuning: { milliseconds: 60_000, changed: (known) => text = known } });
  const reference = referenceDevice();
  const results: Uint32Array[] = [];
  for (const each of [device, reference, device, device]) {
    const views = {
      a: each.allocate(m * k, "a"),
      b: each.allocate(n * k, "b"),
      c: each.allocate(m * n, "c"),
    };
    each.write(views.a, a);
    each.write(views.b, b);
    each.run(matmulNT, views, { m, n, k, accumulate: 0 });
    const [words] = await each.read([part(views.c, 0, m * n)]);
    results.push(new Uint32Array(words));
    if (results.length === 1) assertEquals(text, "", "the first result does not wait for tuning");
  }
  // The last one in the form that was chosen behind the third.
  for (const result of results) assertEquals(result, results[1]);
  const [sizes] = Object.values(JSON.parse(text) as Record<string, Record<string, string>>);
  const [[shapeClass, size]] = Object.entries(sizes);
  assertEquals(shapeClass, "nt 128x128x64 vvv");
  assert(matmulNT.tuning!.variant(size, { m, n, k, accumulate: 0 }) !== undefined);
  assert((await device.tuned(matmulNT, { m, n, k, accumulate: 0 })).endsWith("vvv set"));
  device.close();
  reference.close();
});
