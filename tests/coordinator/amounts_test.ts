/** Numbers as people read them: three digits, whatever their size. */
import { assertEquals } from "@std/assert";
import { duration, number, quantity, size } from "../../coordinator/amounts.ts";

Deno.test("numbers have three digits and a prefix of thousands", () => {
  const cases: [n: number, text: string][] = [
    [0, "0"],
    [0.0123456, "0.0123"],
    [7.5, "7.5"],
    [123.4, "123"],
    [999.4, "999"],
    [999.6, "1.00k"],
    [12_345, "12.3k"],
    [999_960, "1.00M"],
    [8.25e12, "8.25T"],
    [6.02e15, "6.02P"],
    [1e18, "1.00E"],
    [1e22, "10000E"],
    [Infinity, "-"],
  ];
  for (const [n, text] of cases) assertEquals(number(n), text);
});

Deno.test("a quantity stands apart from its unit", () => {
  assertEquals(quantity(82.6e12, "FLOPS"), "82.6 TFLOPS");
  assertEquals(quantity(0, "B/s"), "0 B/s");
  assertEquals(quantity(NaN, "B/s"), "-");
});

Deno.test("sizes and durations", () => {
  assertEquals([size(512), size(3 * 2 ** 20), size(1.5 * 2 ** 40)], ["512 B", "3.0 MiB", "1.5 TiB"]);
  assertEquals([duration(12.4), duration(200), duration(3_720)], ["12 s", "3 min 20 s", "1 h 02 min"]);
});
