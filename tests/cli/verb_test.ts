import { assertEquals, assertThrows } from "@std/assert";
import { readFlags, UsageError } from "../../cli/verb.ts";

const spec = { boolean: ["json"], string: ["port", "name"], positional: ["A", "B?"] };

Deno.test("flags and arguments are read as they were typed", () => {
  const flags = readFlags(["007", "--port=80", "--json", "--name", "x"], spec);
  assertEquals(flags.positional, ["007"]);
  assertEquals([flags.number("port"), flags.has("json"), flags.text("name")], [80, true, "x"]);
  assertEquals(readFlags(["a"], spec).number("port"), undefined);
  assertEquals(
    readFlags(["a", "--name", "--", "-b"], { ...spec, string: ["port"], boolean: ["name"] }).positional,
    [
      "a",
      "-b",
    ],
  );
});

for (
  const [what, args, says] of [
    ["unknown", ["a", "--prot", "1"], "did you mean --port?"],
    ["short and unknown", ["a", "-x"], "no flag"],
    ["no value", ["a", "--name"], "--name needs a value"],
    ["a flag for a value", ["a", "--name", "--json"], "--name needs a value"],
    ["nothing", [], "A is missing"],
    ["too much", ["a", "b", "c"], '"c" is one argument too many'],
  ] as [string, string[], string][]
) {
  Deno.test(`flags are refused: ${what}`, () => {
    assertThrows(() => readFlags(args, spec), UsageError, says);
  });
}

Deno.test("a negative number is a value, not a flag", () => {
  assertEquals(readFlags(["a", "--port", "-1.5"], spec).number("port"), -1.5);
  assertEquals(readFlags(["a", "--port", "-.5", "b"], spec).positional, ["a", "b"]);
  assertThrows(() => readFlags(["a", "-1"], spec), UsageError, "no flag");
  assertThrows(() => readFlags(["a", "--port", "-x"], spec), UsageError);
});

Deno.test("a value that may be left out is taken where a number follows", () => {
  const read = (...args: string[]) => {
    const flags = readFlags(args, { ...spec, optional: { share: 0.5 } });
    return [flags.number("share"), ...flags.positional];
  };
  assertEquals(read("a"), [undefined, "a"]);
  assertEquals(read("--share", "a", "b"), [0.5, "a", "b"]);
  assertEquals(read("a", "--share"), [0.5, "a"]);
  assertEquals(read("a", "--share", "--json"), [0.5, "a"]);
  assertEquals(read("a", "--share", "0.25", "b"), [0.25, "a", "b"]);
  assertEquals(read("--share=0.25", "7"), [0.25, "7"]);
  assertEquals(read("a", "--share", "-1"), [-1, "a"]);
  assertThrows(() => read("a", "--share", "--share", "1"), UsageError, "twice");
  assertThrows(() => read("a", "--share=x"), UsageError, "takes a number");
});

Deno.test("numbers are checked against their bounds", () => {
  const flags = (port: string) => readFlags(["a", "--port", port], spec);
  const bounds = { min: 1, max: 10, integer: true };
  assertEquals(flags("10").number("port", bounds), 10);
  for (const bad of ["0", "11", "1.5", "x", " "]) {
    assertThrows(() => flags(bad).number("port", bounds), UsageError);
  }
  assertThrows(
    () => readFlags(["a", "--port", "1", "--port", "2"], spec).number("port"),
    UsageError,
    "twice",
  );
});
