/** What goes on while results are on their way back. */
import { assertEquals } from "@std/assert";
import { webgpuDevice } from "../../kernels/mod.ts";
import { floats, scale } from "./small_kernels.ts";

/** A runtime with promises for maps, which the test keeps: opens a device there, with what its queue was given. */
async function opened() {
  const maps: (() => void)[] = [], submitted = { count: 0 };
  const adapter = (await navigator.gpu.requestAdapter())!;
  const requestDevice = async (descriptor: GPUDeviceDescriptor) => {
    const device = await adapter.requestDevice(descriptor), { queue } = device;
    const create = device.createBuffer.bind(device), submit = queue.submit.bind(queue);
    device.createBuffer = (descriptor) => {
      const buffer = create(descriptor);
      if ((descriptor.usage & GPUBufferUsage.MAP_READ) === 0) return buffer;
      const map = buffer.mapAsync.bind(buffer);
      buffer.mapAsync = async (...range) => {
        await new Promise<void>((resolve) => maps.push(resolve));
        await map(...range);
      };
      return buffer;
    };
    queue.submit = (commands) => {
      submitted.count++;
      submit(commands);
    };
    return device;
  };
  const spying = { requestAdapter: () => Promise.resolve({ ...plain(adapter), requestDevice }) };
  for (const [name, value] of Object.entries({ gpu: spying, userAgent: "Mozilla/5.0 (something else)" })) {
    Object.defineProperty(navigator, name, { value, configurable: true });
  }
  try {
    return { device: await webgpuDevice(), maps, submitted };
  } finally {
    // deno-lint-ignore no-explicit-any
    for (const name of ["gpu", "userAgent"]) delete (navigator as any)[name];
  }
}

/** What is asked of an adapter beside a device. */
const plain = ({ limits, info, features }: GPUAdapter) => ({ limits, info, features });

Deno.test("Where maps are promises the next pass is submitted while a result is on its way, and may come back first", async () => {
  const { device, maps, submitted } = await opened();
  assertEquals(device.fastReads, false);
  const length = 4, x = device.allocate(length, "x");
  const first = device.allocate(length, "first"), second = device.allocate(length, "second");
  device.write(x, Float32Array.of(1, 2, 3, 4));
  const order: string[] = [];
  device.run(scale, { x, y: first }, { length, factor: 2, shift: 0 });
  const one = device.read([first]).finally(() => order.push("first"));
  assertEquals([maps.length, submitted.count], [1, 1]);
  // Nobody has the first result yet: the second pass goes to the queue all the same, and overwrites the input.
  device.run(scale, { x: first, y: second }, { length, factor: 10, shift: 1 });
  device.flush();
  assertEquals([maps.length, submitted.count], [1, 2]);
  device.write(x, Float32Array.of(0, 0, 0, 0));
  device.run(scale, { x, y: first }, { length, factor: 1, shift: 9 });
  const two = device.read([second]).finally(() => order.push("second"));
  assertEquals([maps.length, submitted.count], [2, 3]);
  maps[1]();
  assertEquals(floats((await two)[0]), [21, 41, 61, 81]);
  assertEquals(order, ["second"]);
  maps[0]();
  assertEquals(floats((await one)[0]), [2, 4, 6, 8]);
  device.close();
});
