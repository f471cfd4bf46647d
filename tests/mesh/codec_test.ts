import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { z } from "zod";
import { decodeMessage, encodeMessage } from "../../mesh/control/codec.ts";
import { MessageError } from "../../mesh/errors.ts";
import { limits } from "../../mesh/limits.ts";
import { FromCoordinator, FromWorker } from "../../mesh/control/messages.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";

const any = z.unknown();

Deno.test("messages survive; bytes come out plain and own their buffer", () => {
  const round = {
    type: "round" as const,
    generation: 1,
    round: 2,
    mode: "train" as const,
    validLabels: 30,
    ids: new Uint8Array([1, 2, 3, 4]),
    labels: undefined,
  };
  const back = decodeMessage(FromCoordinator, encodeMessage(round));
  assert(back.type === "round" && back.ids !== undefined);
  assertEquals(back.labels, undefined);
  assertEquals(back.ids.constructor, Uint8Array);
  assertEquals(back.ids.buffer.constructor, ArrayBuffer);
  assertEquals(back.ids.buffer.byteLength, 4);
  assertEquals([...back.ids], [1, 2, 3, 4]);
  const numbers = {
    a: [0, 127, 128, -1, -33, 65_536, 2 ** 32, -(2 ** 31), 2 ** 53 - 1, 0.1, null, true, "é"],
  };
  assertEquals(decodeMessage(any, encodeMessage(numbers)), numbers);
});

Deno.test("a message of the wrong shape is refused with the path of what is wrong", () => {
  const bytes = encodeMessage({ type: "loaded", generation: -1, bytes: 3 });
  assertThrows(() => decodeMessage(FromWorker, bytes), MessageError, "generation");
  assertThrows(() => decodeMessage(FromWorker, encodeMessage({ type: "welcome" })), MessageError, "type");
  assertThrows(
    () => decodeMessage(FromWorker, encodeMessage({ type: "ping", id: 1, more: 2 })),
    MessageError,
    "valid",
  );
});

Deno.test("lengths that lie ask for no memory", () => {
  const lies: [string, number[]][] = [
    ["ends in the middle", [0xc6, 0xff, 0xff, 0xff, 0xff]],
    ["ends in the middle", [0xdb, 0x7f, 0xff, 0xff, 0xff, 0x41]],
    ["longer than the message", [0xdd, 0xff, 0xff, 0xff, 0xff, 0x01]],
    ["longer than the message", [0xdf, 0x10, 0x00, 0x00, 0x00, 0xa0, 0x01]],
    ["longer than the message", [0x91, 0x92, 0xdc, 0xff, 0xff, 0x01]],
    ["not in use", [0xd4, 0x72, 0x40, 0x90]],
    ["not in use", [0xc7, 0x01, 0x05, 0x00]],
    ["not in use", [0xc1]],
    ["no string", [0x81, 0x01, 0x02]],
    ["behind its end", [0x01, 0x02]],
    ["ends in the middle", []],
  ];
  for (const [text, bytes] of lies) {
    assertThrows(() => decodeMessage(any, new Uint8Array(bytes)), MessageError, text);
  }
  assertThrows(() => decodeMessage(any, new Uint8Array(200).fill(0x91)), MessageError, "deeply");
  const empty = new Uint8Array(limits.messageValues + 6).fill(0x80);
  empty[0] = 0xdd;
  new DataView(empty.buffer).setUint32(1, empty.length - 5);
  assertThrows(() => decodeMessage(any, empty), MessageError, "too many");
  assertThrows(() => decodeMessage(any, new Uint8Array(11), 10), MessageError, "11 bytes");
});

Deno.test("no key reaches a prototype", () => {
  const bytes = encodeMessage({ x__proto__: { admin: true } });
  const at = bytes.indexOf(0x78);
  const evil = new Uint8Array([...bytes.slice(0, at - 1), 0xa0 | 9, ...bytes.slice(at + 1)]);
  assertThrows(() => decodeMessage(any, evil), MessageError, "__proto__");
  assertEquals(({} as { admin?: boolean }).admin, undefined);
});

Deno.test("10,000 damaged messages: refused as MessageError, or valid", () => {
  const chance = new VirtualClock(23);
  const samples = [
    { type: "hello", software: "volary 0.1", name: "n", profile: profile() },
    {
      type: "signal",
      generation: 1,
      peer: "w2",
      body: { role: "offer", candidates: [{ port: 1 }, null, [1.5]] },
    },
    { type: "chunk", id: 5, bytes: new Uint8Array(40) },
    { type: "pull", id: 5, tensor: "model.embed_tokens.weight", part: "m", start: 0, length: 4 },
    {
      type: "vote",
      generation: 1,
      round: 9,
      tensors: [{ name: "t", sum: 1.25, finite: true }],
      losses: [{ microbatch: 0, layer: 0, ce: 1, balance: 0, z: 0, load: [[1, 2], []] }],
      report: { busy: 1, elapsed: 2, sent: 3, received: 4, waited: 5 },
    },
  ].map(encodeMessage);
  for (const sample of samples) decodeMessage(FromWorker, sample);
  let refused = 0;
  for (let i = 0; i < 10_000; i++) {
    let bytes = samples[i % samples.length].slice();
    for (let n = 1 + Math.floor(chance.uniform() * 4); n > 0; n--) {
      const at = Math.floor(chance.uniform() * bytes.length);
      if (chance.uniform() < 0.8) bytes[at] = Math.floor(chance.uniform() * 256);
      else bytes = new Uint8Array([...bytes.slice(0, at), ...chance.random(2), ...bytes.slice(at)]);
    }
    if (chance.uniform() < 0.1) bytes = bytes.slice(0, Math.floor(chance.uniform() * bytes.length));
    try {
      decodeMessage(FromWorker, bytes);
    } catch (error) {
      assertInstanceOf(error, MessageError);
      refused++;
    }
  }
  assert(refused > 5_000 && refused < 10_000, `${refused} refused`);
});

function profile() {
  return {
    device: "reference",
    deviceName: "cpu",
    flops: 1e9,
    bandwidth: 1e9,
    memory: 2 ** 33,
    maxBinding: 2 ** 27,
  };
}
