/** What holds for WebGPU alone: timings, refusals of its compiler and its queue, variants, reads, and its loss. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  defineKernel,
  DeviceError,
  DeviceLostError,
  NoAdapterError,
  openDevice,
  part,
  ShaderError,
  type WebGpuDevice,
  webgpuDevice,
} from "../../kernels/mod.ts";
import { assertEveryMethodThrows, cost, increment, scale } from "./small_kernels.ts";

async function withWebGpu(body: (device: WebGpuDevice) => Promise<void>): Promise<void> {
  const device = await webgpuDevice();
  try {
    await body(device);
  } finally {
    device.close();
  }
}

Deno.test("Timed work computes the same, and every dispatch is accounted for once, in order", async () => {
  const device = await webgpuDevice({ timings: true });
  try {
    const x = device.allocate(4, "x"), y = device.allocate(4, "y");
    device.write(x, Float32Array.of(1, 2, 3, 4));
    const values = { length: 4, factor: 2, shift: 1 };
    device.run(scale, { x, y }, values);
    const round = async () => {
      device.run(scale, { x, y }, values);
      device.write(x, Float32Array.of(5, 6, 7, 8));
      device.run(scale, { x, y }, { ...values, shift: 3 });
      assertEquals(new Float32Array((await device.read([y]))[0]), Float32Array.of(13, 15, 17, 19));
      device.run(increment, { y }, {});
    };
    for (let turn = 0; turn < 2; turn++) {
      const calls = await device.timed(round);
      if (calls === undefined) return; // an adapter without timestamps
      assertEquals(calls.map(({ kernel, values }) => [kernel.name, values]), [
        ["test scale", values],
        ["test scale", { ...values, shift: 3 }],
        ["test increment", {}],
      ]);
      for (const { milliseconds } of calls) assert(milliseconds >= 0 && milliseconds < 60_000);
    }
  } finally {
    device.close();
  }
});

Deno.test("Work on a device that was opened without timings runs untimed", () =>
  withWebGpu(async (device) => {
    const y = device.allocate(4, "y");
    device.write(y, new Uint32Array(4));
    assertEquals(await device.timed(() => Promise.resolve(device.run(increment, { y }, {}))), undefined);
    assertEquals(new Uint32Array((await device.read([y]))[0]), Uint32Array.of(1, 1, 1, 1));
  }));

Deno.test("A refused program names kernel, line and source, and no result comes after it", () =>
  withWebGpu(async (device) => {
    const wrong = defineKernel({
      name: "test wrong",
      bindings: { y: "f32 write" },
      params: { length: "u32" },
      wgsl: "@compute @workgroup_size(1) fn main() {\n  let here = 1.0;\n  y[0] = missing;\n}",
      grid: () => 1,
      cost,
      reference: () => {},
    });
    const y = device.allocate(4, "y");
    device.run(wrong, { y }, { length: 4 });
    const error = await assertRejects(() => device.read([y]), ShaderError);
    assertEquals(error.name, "ShaderError");
    for (const word of ["test wrong/only", "line 11", "missing", ">   11 |   y[0] = missing;", "let here"]) {
      assert(error.message.includes(word), error.message);
    }
    await assertEveryMethodThrows(device, y, ShaderError);
  }));

Deno.test("What WebGPU refuses at submission is thrown, not swallowed", () =>
  withWebGpu(async (device) => {
    const y = device.allocate(4, "y");
    // The memory lies about its size, so that the device's own checks let the copy pass.
    const lying = { memory: { ...y.memory, words: 1000 }, offset: 0, length: 1000 };
    device.run(increment, { y }, {});
    device.copy(lying, device.allocate(1000, "target"));
    const error = await assertRejects(() => device.read([y]), DeviceError);
    assert(error.message.includes("WebGPU refused"), error.message);
  }));

Deno.test("A view larger than a binding is refused with both sizes", () =>
  withWebGpu((device) => {
    const most = device.info.maxBinding / 4;
    if (device.info.maxAllocation >= device.info.maxBinding + 2 ** 20) {
      const x = device.allocate(most + 64, "embedding"), y = device.allocate(64, "y");
      const call = () => device.run(scale, { x, y }, { length: 1, factor: 1, shift: 0 });
      const error = assertThrows(call, DeviceError, "embedding");
      assert(error.message.includes("binds at most"), error.message);
    }
    return Promise.resolve();
  }));

Deno.test("A named variant is run, a missing or unfit one is refused", () =>
  withWebGpu(async (device) => {
    const program = (value: string) => `@compute @workgroup_size(1) fn main() { y[0] = ${value}; }`;
    const kernel = defineKernel({
      name: "test variants",
      bindings: { y: "f32 write" },
      params: { length: "u32" },
      variants: [
        { name: "plain", wgsl: program("1.0"), grid: () => 1 },
        {
          name: "four",
          wgsl: program("vec4f(4.0)"),
          grid: () => 1,
          elements: { y: "vec4f" },
          fits: ({ length }) => length % 4 === 0,
        },
      ],
      cost,
      reference: () => {},
    });
    const y = device.allocate(4, "y");
    const first = async () => new Float32Array((await device.read([y]))[0])[0];
    device.run(kernel, { y }, { length: 4 });
    assertEquals(await first(), 4);
    device.run(kernel, { y }, { length: 3 });
    assertEquals(await first(), 1);
    device.run(kernel, { y }, { length: 4 }, "plain");
    assertEquals(await first(), 1);
    assertThrows(() => device.run(kernel, { y }, { length: 3 }, "four"), ShaderError, "does not fit");
    assertThrows(() => device.run(kernel, { y }, { length: 3 }, "five"), ShaderError, "no variant five");
  }));

/** Replaces `navigator.gpu` while `body` runs. */
async function withGpu(gpu: unknown, body: () => Promise<void>): Promise<void> {
  Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
  try {
    await body();
  } finally {
    // deno-lint-ignore no-explicit-any
    delete (navigator as any).gpu;
  }
}

Deno.test("Reads without waiting where the runtime is known for it, and the awaited way, bring the same", async () => {
  const values = Float32Array.from({ length: 5000 }, (_, i) => i / 3);
  for (const userAgent of [navigator.userAgent, "Mozilla/5.0 (something else)"]) {
    Object.defineProperty(navigator, "userAgent", { value: userAgent, configurable: true });
    try {
      await withWebGpu(async (device) => {
        assertEquals(device.fastReads, userAgent === "Deno/2.9.6");
        const x = device.allocate(5000, "x"), y = device.allocate(5000, "y");
        device.write(x, values);
        for (let turn = 1; turn <= 3; turn++) {
          device.run(scale, { x, y }, { length: 5000, factor: turn, shift: 0 });
          const [all, end] = await device.read([y, part(y, 4990, 10)]);
          assertEquals(new Float32Array(all), values.map((value) => value * turn));
          assertEquals(new Float32Array(end), values.slice(4990).map((value) => value * turn));
        }
      });
    } finally {
      // deno-lint-ignore no-explicit-any
      delete (navigator as any).userAgent;
    }
  }
});

Deno.test("Without an adapter: NoAdapterError says what to install, auto takes plain arrays", async () => {
  for (const gpu of [undefined, { requestAdapter: () => Promise.resolve(null) }]) {
    await withGpu(gpu, async () => {
      const error = await assertRejects(() => openDevice({ kind: "webgpu" }), NoAdapterError);
      assertEquals(error.name, "NoAdapterError");
      assert(error.message.includes("apt-get install -y mesa-vulkan-drivers"), error.message);
      const device = await openDevice();
      assertEquals(device.info.kind, "reference");
      device.close();
    });
  }
  const device = await openDevice();
  assertEquals(device.info.kind, "webgpu");
  device.close();
});

Deno.test("A device that goes away: every later call throws DeviceLostError", async () => {
  const real = navigator.gpu;
  let underneath: GPUDevice | undefined;
  const adapter = await real.requestAdapter();
  const spying = {
    requestAdapter: () =>
      Promise.resolve({
        limits: adapter!.limits,
        info: adapter!.info,
        requestDevice: async (descriptor: GPUDeviceDescriptor) =>
          underneath = await adapter!.requestDevice(descriptor),
      }),
  };
  await withGpu(spying, async () => {
    const device = await webgpuDevice();
    const x = device.allocate(4, "x");
    device.write(x, Float32Array.of(1, 2, 3, 4));
    underneath!.destroy();
    await underneath!.lost;
    await assertEveryMethodThrows(device, x, DeviceLostError);
    device.close();
  });
});
