/** Codecs: which bits survive, how large errors are, what damaged bytes do. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { FrameError } from "../../mesh/errors.ts";
import {
  type Codec,
  CODECS,
  decodeWords,
  encodeWords,
  offeredCodecs,
} from "../../mesh/tensors/tensor_codec.ts";
import { VirtualClock } from "../../mesh/virtual_clock.ts";
import { zstd } from "../../mesh/tensors/zstd_deno.ts";

/** Normally distributed words of very different sizes from block to block. */
function words(count: number, seed: number): Float32Array<ArrayBuffer> {
  const chance = new VirtualClock(seed);
  return Float32Array.from({ length: count }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log(1 - chance.uniform()));
    return radius * Math.cos(2 * Math.PI * chance.uniform()) * 10 ** (Math.floor(i / 64) % 7 - 3);
  });
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** What arrives; words that a codec would not make smaller travel as they are. */
function through(codec: Codec, values: Float32Array, residual?: Float32Array<ArrayBuffer>): Float32Array {
  const encoded = encodeWords(codec, bytesOf(values), zstd, residual);
  if (encoded === undefined) return values;
  return new Float32Array(decodeWords(codec, encoded, values.byteLength, zstd).buffer);
}

Deno.test("errors of each codec stay within its bounds, at every length", () => {
  const largest = { f32: 0, zstd: 0, bf16: 2 ** -8, f16: 2 ** -11, int8: 1 / 254 };
  for (const codec of CODECS) {
    for (const count of [0, 1, 2, 3, 63, 64, 65, 127, 1_000, 4_097]) {
      const values = words(count, count + 1), came = through(codec, values);
      assertEquals(came.length, count);
      for (let from = 0; from < count; from += 64) {
        const block = values.subarray(from, from + 64), most = Math.max(...block.map(Math.abs));
        block.forEach((value, i) => {
          const error = Math.abs(came[from + i] - value);
          // f16 has the same absolute error for everything below its smallest normal number.
          const bound = codec === "int8" ? most * largest.int8 : Math.abs(value) * largest[codec];
          assert(
            error <= bound * 1.0001 + (codec === "f16" ? 2 ** -25 : 0),
            `${codec}: ${value} became ${came[from + i]}`,
          );
        });
      }
    }
  }
});

Deno.test("f32 and zstd keep every bit; the others keep what is not finite noticeable", () => {
  const odd = new Float32Array(1_024);
  odd.set([0, -0, 1e-45, -1e-45, 3.4028235e38, Infinity, -Infinity, NaN, 1]);
  for (const codec of ["f32", "zstd"] as const) {
    assertEquals(new Uint32Array(through(codec, odd).slice().buffer), new Uint32Array(odd.slice().buffer));
  }
  assert(encodeWords("zstd", bytesOf(odd), zstd)!.length < 200);
  for (const codec of ["bf16", "f16", "int8"] as const) {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const values = words(300, 9);
      values[100] = bad;
      const came = through(codec, values);
      assert(!Number.isFinite(came[100]), `${codec}: ${bad} became ${came[100]}`);
      assert(came.slice(128).every(Number.isFinite));
    }
  }
});

Deno.test("int8 with error feedback: what is left out of one round comes with the next ones", () => {
  const gradient = words(640, 4),
    residual = new Float32Array(640),
    fed = new Float64Array(640),
    plain = new Float64Array(640);
  const rounds = 50;
  for (let round = 0; round < rounds; round++) {
    through("int8", gradient, residual).forEach((value, i) => fed[i] += value);
    through("int8", gradient).forEach((value, i) => plain[i] += value);
  }
  const error = (sums: Float64Array) =>
    Math.hypot(...sums.map((sum, i) => sum / rounds - gradient[i])) / Math.hypot(...gradient);
  assert(error(fed) < error(plain) / 10, `${error(fed)} with feedback, ${error(plain)} without`);
});

Deno.test("damaged bytes are refused or give words within the plan's size, never more", () => {
  const chance = new VirtualClock(5), values = words(2_000, 6);
  for (const codec of CODECS) {
    const good = encodeWords(codec, bytesOf(values), zstd) ?? bytesOf(values);
    for (let i = 0; i < 300; i++) {
      const bad = good.slice(0, 1 + Math.floor(chance.uniform() * good.length));
      bad[Math.floor(chance.uniform() * bad.length)] = Math.floor(chance.uniform() * 256);
      try {
        assert(decodeWords(codec, bad, values.byteLength, zstd).length <= values.byteLength);
      } catch (error) {
        assert(error instanceof FrameError, String(error));
      }
    }
  }
  // A few bytes of zstd that would become 64 MiB.
  const bomb = zstd.compress(new Uint8Array(64 << 20));
  assert(bomb.length < 20_000);
  assertThrows(() => decodeWords("zstd", bomb, 1 << 20, zstd), FrameError, "larger than the plan's");
  assertThrows(() => decodeWords("bf16", new Uint8Array(1_000), 1_000), FrameError, "plan's largest");
});

Deno.test("a platform offers what it has", () => {
  assertEquals(offeredCodecs(zstd), [...CODECS]);
  assertEquals(offeredCodecs(undefined), ["f32", "bf16", "f16", "int8"]);
});
