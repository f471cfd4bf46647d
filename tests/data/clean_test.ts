/** Cleaning and the checks of quality, each by a text of its own. */
import { assertEquals } from "@std/assert";
import { cleanText, qualityFault } from "../../data/clean.ts";
import { readConfig } from "../../data/config.ts";

const { quality } = readConfig(
  { output: "o", tokenizer: "bytes", domain: [{ name: "x", files: ["f"] }] },
  String,
);

Deno.test("cleaning leaves composed letters, plain line feeds and nothing invisible", () => {
  for (
    const [before, after] of [
      ["e\u0301te\u0301", "\u00e9t\u00e9"],
      ["one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"],
      ["\ufeffsoft\u00ad hy\u200bphen\u0007", "soft hyphen"],
      ["  ends \t\nof lines\u3000 \n", "ends\nof lines"],
      ["a\n\n\n\n\nb", "a\n\nb"],
      ["lone \ud800 half", "lone \ufffd half"],
      ["\ttab\tand 中文　字", "tab\tand 中文　字"],
    ]
  ) assertEquals(cleanText(before), after);
});

Deno.test("each check of quality drops what it names, and keeps prose", () => {
  // Different words of usual length, so that only what each case adds is wrong.
  const word = (i: number) =>
    [..."aeiou"].map((vowel, j) => "bcdfgklmnprstv"[(i * (j + 3) + j) % 14] + vowel).join("");
  const prose = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => word(from + i)).join(" ");
  for (
    const [text, fault] of [
      [prose(0, 14), undefined],
      ["今天天气很好，我们一起去公园散步，看到许多美丽的花朵和小鸟。", undefined],
      ["too short", "too short"],
      ["a".repeat(quality.longest + 1), "too long"],
      [`caf\ufffd ${prose(0, 4)} \ufffd`, "wrongly decoded"],
      ["---- //// ==== ++++ **** words ----", "few letters"],
      ["the years 1914 and 1918 and 1939", "many digits"],
      [`${word(1)} ${word(2)}\n`.repeat(3), "repeated lines"],
      ["buy this now ".repeat(40), "repeated pieces"],
      [Array.from({ length: 26 }, (_, i) => String.fromCharCode(97 + i)).join(" "), "short words"],
      [Array.from({ length: 22 }, (_, i) => word(i) + word(3 * i + 1)).join(" "), "long words"],
    ] as const
  ) assertEquals(qualityFault(text, quality), fault, text.slice(0, 60));
});
