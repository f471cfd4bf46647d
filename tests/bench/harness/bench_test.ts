/** What benches are given: flags that they understand, and output for people or for programs. */
import { assertEquals, assertThrows } from "@std/assert";
import { type BenchFlags, flagsText, output, readBenchFlags } from "../../../bench/harness/bench.ts";
import { UsageError } from "../../../cli/verb.ts";

const known: BenchFlags = {
  switches: ["check"],
  texts: { folder: "FOLDER" },
  optional: { roads: "MS" },
  choices: { model: ["step", "demo"] },
  numbers: { seeds: 3, "learning-rate": 2e-3 },
};

Deno.test("flags are read, numbers have their defaults, and a value may be left out where that is said", () => {
  const given = ["--json", "--check", "--folder=here", "--roads", "--model=demo", "--learning-rate=0.5"];
  const flags = readBenchFlags(given, known);
  assertEquals(
    [flags.has("check"), flags.text("folder"), flags.text("roads"), flags.text("model")],
    [true, "here", "", "demo"],
  );
  assertEquals(flags.numbers({ seeds: 3, "learning-rate": 2e-3 }), { seeds: 3, "learning-rate": 0.5 });
  assertEquals(["check", "roads", "model", "seeds"].map(flags.has), [true, true, true, false]);
  const other = readBenchFlags(["--roads=40"], known);
  assertEquals([other.text("roads"), other.has("roads"), other.has("check")], ["40", true, false]);
});

Deno.test("a flag that is not understood is an error that names those that are", () => {
  for (
    const [args, spec, said] of [
      [
        ["--chek"],
        known,
        "did you mean --check? Known: --json, --check, --folder, --roads, --model, --seeds",
      ],
      [["--check"], undefined, "There is no flag --check. Known: --json."],
      [["--model=large"], known, '--model takes step or demo, not "large"'],
      [["--seeds=many"], known, '--seeds takes a number from 0, not "many"'],
      [["--seeds=-1"], known, "--seeds takes a number from 0"],
      [["--folder"], known, "--folder needs a value"],
    ] as const
  ) assertThrows(() => readBenchFlags(args, spec), UsageError, said);
});

Deno.test("the list of flags shows how each is typed", () => {
  assertEquals(
    flagsText(known).join(" "),
    "--json --check --roads[=MS] --folder=FOLDER --model=step|demo --seeds=3 --learning-rate=0.002",
  );
  assertEquals(flagsText(), ["--json"]);
});

Deno.test("a finding is said once: a JSON line that names its bench, or lines for people", () => {
  const log = console.log, said: unknown[] = [];
  console.log = (line) => said.push(line);
  try {
    for (const json of [true, false]) {
      const { record, print } = output("step", json);
      record({ seconds: 1 });
      print("a second", "or two");
    }
  } finally {
    console.log = log;
  }
  assertEquals(said, ['{"bench":"step","seconds":1}', "a second", "or two"]);
});
