/**
 * What a bench is, and what it is given.
 *
 * @module
 */
import { type Flags, readFlags, UsageError } from "../../cli/verb.ts";

/** What a bench exports. */
export interface Bench {
  /** One line for the list of benches. */
  readonly title: string;
  /** Absent: none but --json. */
  readonly flags?: BenchFlags;
  /** Answers with false (or throws) where something is worse than it must be; any other answer is fine. */
  run(options: BenchOptions): unknown;
}

/** What a bench is given. */
export interface BenchOptions extends Output {
  readonly flags: GivenFlags;
}

/** Where findings go: each is said to programs or to people, by whether `--json` was given. */
export interface Output {
  /** One finding for programs, a line of JSON on stdout; nothing without `--json`. */
  record(finding: object): void;
  /** Lines for people on stdout; nothing with `--json`. */
  print(...lines: readonly string[]): void;
}

/** The output of the bench called `name`, which stands in each finding. */
export function output(name: string, json: boolean): Output {
  return {
    record(finding) {
      if (json) console.log(JSON.stringify({ bench: name, ...finding }));
    },
    print(...lines) {
      if (!json) { for (const line of lines) console.log(line); }
    },
  };
}

/** Flags that a bench understands besides --json. A value stands behind an equals sign. */
export interface BenchFlags {
  /** Without a value. */
  readonly switches?: readonly string[];
  /** With any value: what that is, for the list of flags. */
  readonly texts?: Readonly<Record<string, string>>;
  /** The same where the value may be left out, which is then "". */
  readonly optional?: Readonly<Record<string, string>>;
  /** With one of these values. */
  readonly choices?: Readonly<Record<string, readonly string[]>>;
  /** With a number from 0 up, and what it is where the flag is not given. */
  readonly numbers?: Readonly<Record<string, number>>;
}

/** Flags as they were given, by name. */
export interface GivenFlags extends Pick<Flags, "text" | "number"> {
  /** Whether it was given, with a value or without. */
  has(name: string): boolean;
  /** Numbers as {@linkcode BenchFlags.numbers} has them. */
  numbers<T extends Readonly<Record<string, number>>>(defaults: T): T;
}

/** Reads flags. Throws `UsageError` that names what is not understood and the flags that there are. */
export function readBenchFlags(args: readonly string[], known: BenchFlags = {}): GivenFlags {
  const { switches = [], texts = {}, optional = {}, choices = {}, numbers = {} } = known;
  const bare = new Set(Object.keys(optional).map((name) => `--${name}`));
  const flags = readFlags(args.map((arg) => bare.has(arg) ? `${arg}=` : arg), {
    boolean: ["json", ...switches],
    string: [texts, optional, choices, numbers].flatMap((part) => Object.keys(part)),
  });
  for (const [name, values] of Object.entries(choices)) {
    const value = flags.text(name);
    if (value !== undefined && !values.includes(value)) {
      throw new UsageError(`--${name} takes ${values.join(" or ")}, not "${value}".`);
    }
  }
  const given = new Map(Object.keys(numbers).map((name) => [name, flags.number(name, { min: 0 })]));
  return {
    has: (name) => switches.includes(name) ? flags.has(name) : flags.text(name) !== undefined,
    text: flags.text,
    number: flags.number,
    numbers: <T extends Readonly<Record<string, number>>>(defaults: T) =>
      Object.fromEntries(
        Object.entries(defaults).map(([name, value]) => [name, given.get(name) ?? value]),
      ) as T,
  };
}

/** The flags as a person types them, with what numbers are unless they are given. */
export function flagsText({ switches, texts, optional, choices, numbers }: BenchFlags = {}): string[] {
  const named = (
    part: Readonly<Record<string, unknown>> = {},
    text: (name: string, value: string) => string,
  ) => Object.entries(part).map(([name, value]) => text(name, String(value)));
  return [
    "--json",
    ...(switches ?? []).map((name) => `--${name}`),
    ...named(optional, (name, value) => `--${name}[=${value}]`),
    ...named(texts, (name, value) => `--${name}=${value}`),
    ...Object.entries(choices ?? {}).map(([name, values]) => `--${name}=${values.join("|")}`),
    ...named(numbers, (name, value) => `--${name}=${value}`),
  ];
}
