import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  type Device,
  DeviceError,
  DeviceLostError,
  openDevice,
  OutOfMemoryError,
  part,
} from "../../kernels/mod.ts";
import { assertEveryMethodThrows, floats, increment, scale } from "./small_kernels.ts";

function onDevices(name: string, body: (device: Device) => Promise<void>): void {
  for (const kind of ["webgpu", "reference"] as const) {
    Deno.test(`${name} (${kind})`, async () => {
      const device = await openDevice({ kind });
      assertEquals(device.info.kind, kind);
      try {
        await body(device);
      } finally {
        device.close();
      }
    });
  }
}

onDevices("Commands take effect in the order given", async (device) => {
  const x = device.allocate(4, "x"), y = device.allocate(4, "y"), z = device.allocate(4, "z");
  device.write(x, Float32Array.of(1, 2, 3, 4));
  device.run(scale, { x, y }, { length: 4, factor: 2, shift: 1 });
  // Written after the command that reads it: must not reach that command.
  device.write(x, Float32Array.of(10, 20, 30, 40));
  device.copy(y, z);
  device.run(scale, { x, y }, { length: 4, factor: 0.5, shift: 0 });
  const first = device.read([z, y]);
  device.clear(z);
  device.run(scale, { x, y }, { length: 2, factor: 1, shift: 0 });
  const second = device.read([part(y, 1, 2), z, x]);
  assertEquals((await first).map(floats), [[3, 5, 7, 9], [5, 10, 15, 20]]);
  assertEquals((await second).map(floats), [[20, 15], [0, 0, 0, 0], [10, 20, 30, 40]]);
});

onDevices(
  "Writes keep their place among copies and clears, and those of other memory disturb nothing",
  async (device) => {
    const x = device.allocate(2, "x"), y = device.allocate(2, "y"), z = device.allocate(2, "z");
    device.write(x, Float32Array.of(1, 2));
    device.copy(x, y);
    device.write(x, Float32Array.of(3, 4));
    device.clear(x);
    device.write(z, Float32Array.of(5, 6));
    device.write(part(x, 1, 1), Float32Array.of(7));
    device.run(scale, { x, y: z }, { length: 1, factor: 1, shift: 8 });
    device.release(x);
    const again = device.allocate(2, "again");
    device.write(again, Float32Array.of(9, 9));
    assertEquals((await device.read([y, z, again])).map(floats), [[1, 2], [8, 6], [9, 9]]);
  },
);

onDevices(
  "A read given before the device is closed brings its values or says that it was closed",
  async (device) => {
    const x = device.allocate(4, "x");
    device.write(x, Float32Array.of(1, 2, 3, 4));
    const reading = device.read([x]).then(([buffer]) => floats(buffer), (error) => error.name);
    device.close();
    const got = await reading;
    if (got !== "DeviceLostError") assertEquals(got, [1, 2, 3, 4]);
  },
);

onDevices("Reads of nothing, empty views and calls without work", async (device) => {
  const empty = device.allocate(0, "empty"), x = device.allocate(64, "x");
  device.write(empty, new Float32Array());
  device.clear(empty);
  device.copy(empty, device.allocate(0, "other"));
  device.run(scale, { x: empty, y: x }, { length: 0, factor: 1, shift: 0 });
  assertEquals(await device.read([]), []);
  assertEquals((await device.read([empty, part(x, 64, 0)])).map((buffer) => buffer.byteLength), [0, 0]);
});

onDevices("Views at an offset, kernels without parameters, reads of many views", async (device) => {
  const whole = device.allocate(64 * 8, "whole");
  device.write(whole, Uint32Array.from({ length: 64 * 8 }, (_, i) => i));
  const view = part(whole, 64 * 3, 8);
  device.run(increment, { y: view }, {});
  device.run(increment, { y: view }, {});
  const buffers = await device.read(Array.from({ length: 8 }, (_, i) => part(whole, 64 * i + 3, 2)));
  const expected = Array.from({ length: 8 }, (_, i) => [64 * i + 3 + (i === 3 ? 2 : 0), 64 * i + 4]);
  assertEquals(buffers.map((buffer) => [...new Uint32Array(buffer)]), expected);
});

onDevices("More workgroups than one dimension holds", async (device) => {
  const length = 64 * 70_001;
  const x = device.allocate(length, "x"), y = device.allocate(length, "y");
  device.write(x, Float32Array.from({ length }, (_, i) => i % 1000));
  device.run(scale, { x, y }, { length, factor: 2, shift: 3 });
  const [got] = (await device.read([y])).map((buffer) => new Float32Array(buffer));
  assertEquals(got.findIndex((value, i) => value !== 2 * (i % 1000) + 3), -1);
});

onDevices("Memory stays flat over 500 rounds of ragged sizes, and the pool is used again", async (device) => {
  const shape = (round: number) => 10_000 + 977 * (round * 7 % 31);
  const turn = async (round: number) => {
    const length = shape(round);
    const x = device.allocate(length, "x"), y = device.allocate(length, "y");
    device.write(x, new Float32Array(length).fill(round));
    device.run(scale, { x, y }, { length, factor: 1, shift: round });
    if (round % 10 === 0) {
      assertEquals(new Float32Array((await device.read([part(y, length - 1, 1)]))[0])[0], 2 * round);
    }
    device.release(x);
    device.release(y);
  };
  for (let round = 0; round < 50; round++) await turn(round);
  const { held, used } = device.memory();
  assertEquals(used, 0);
  for (let round = 50; round < 550; round++) await turn(round);
  assertEquals(device.memory(), { held, used: 0, peak: held });
});

Deno.test("What commands leave on the host is collected every so often, where the engine can be asked", async () => {
  const device = await openDevice({ kind: "webgpu" });
  const engine = globalThis as { gc?: (options: unknown) => void }, before = engine.gc;
  const asked: unknown[] = [];
  engine.gc = (options) => asked.push(options);
  try {
    const x = device.allocate(1, "x"), y = device.allocate(1, "y");
    for (let i = 0; i < 2_500; i++) {
      device.copy(x, y);
      device.flush();
    }
    assertEquals(asked, [{ type: "major", execution: "async" }, { type: "major", execution: "async" }]);
  } finally {
    engine.gc = before;
    device.close();
  }
});

onDevices("More different parameters than the device keeps", async (device) => {
  const y = device.allocate(6000 * 64, "y"), x = device.allocate(1, "x");
  device.write(x, Float32Array.of(1));
  for (let i = 0; i < 6000; i++) {
    device.run(scale, { x, y: part(y, 64 * i, 1) }, { length: 1, factor: i, shift: 1 });
  }
  const [got] = (await device.read([y])).map((buffer) => new Float32Array(buffer));
  for (let i = 0; i < 6000; i++) assertEquals(got[64 * i], i + 1);
});

onDevices("Misuse is refused with what and why", async (device) => {
  const x = device.allocate(128, "weights"), y = device.allocate(128, "result");
  const values = { length: 64, factor: 1, shift: 0 };
  assertThrows(() => part(x, 100, 29), RangeError, "100..129");
  assertThrows(() => device.write(x, new Float32Array(129)), RangeError, "129 words");
  assertThrows(() => device.copy(x, part(y, 0, 64)), RangeError, "lengths must be equal");
  assertThrows(() => device.run(scale, { x: part(x, 1, 64), y }, values), RangeError, "multiples of 64");
  assertThrows(() => device.run(scale, { x, y: part(x, 64, 64) }, values), DeviceError, "weights");
  assertThrows(() => device.run(scale, { x, y }, { ...values, length: -1 }), RangeError, "length is -1");
  assertThrows(() => device.run(scale, { x, y } as never, { length: 1 } as never), TypeError, "factor");
  assertThrows(() => device.run(scale, { x } as never, values), TypeError, "binding y");
  const moved = new Float32Array(4);
  structuredClone(moved.buffer, { transfer: [moved.buffer] });
  assertThrows(() => device.write(x, moved), TypeError, "transferred");
  device.release(x);
  assertThrows(() => device.run(scale, { x, y }, values), DeviceError, "weights has been released");
  assertThrows(() => device.release(x), DeviceError, "released");
  const other = await openDevice({ kind: "reference" });
  assertThrows(() => device.clear(other.allocate(4, "foreign")), TypeError, "another device");
  other.close();
});

for (const kind of ["webgpu", "reference"] as const) {
  Deno.test(`Running out of memory names what was asked for, what is held and the limit (${kind})`, async () => {
    const device = await openDevice({ kind, memory: 3 * 2 ** 20 });
    try {
      const one = device.allocate(2 ** 18, "one");
      const two = device.allocate(2 ** 18, "two");
      const error = assertThrows(() => device.allocate(2 ** 19, "activations"), OutOfMemoryError);
      assertEquals(error.name, "OutOfMemoryError");
      for (const word of ["2.0 MiB", "activations", "limit is 3.0 MiB"]) {
        assert(error.message.includes(word), error.message);
      }
      // What was held still works, and free blocks of other sizes make room.
      device.release(one);
      device.release(two);
      const large = device.allocate(2 ** 19, "activations");
      device.clear(large);
      assertEquals(new Float32Array((await device.read([part(large, 0, 1)]))[0])[0], 0);
      assertThrows(() => device.allocate(2 ** 40, "a planet"), OutOfMemoryError, "largest allocation");
    } finally {
      device.close();
    }
  });

  Deno.test(`After close every method throws DeviceLostError (${kind})`, async () => {
    const device = await openDevice({ kind });
    const x = device.allocate(4, "x");
    device.close();
    await assertEveryMethodThrows(device, x, DeviceLostError);
    device.close();
  });
}
