/**
 * What a verb of the program is, and how its flags are read.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { nearest } from "../coordinator/nearest.ts";

/** One verb: `volary NAME ...`. Each lives in `cli/NAME.ts` and exports itself as `verb`. */
export interface Verb {
  readonly name: string;
  /** One line for the list of verbs. */
  readonly summary: string;
  /** The text of `volary NAME --help`, without the examples. */
  readonly help: string;
  /** Command lines that can be typed as they stand, from the verb's name on. */
  readonly examples: readonly string[];
  /** Does it and answers with the exit code: 0 done, 1 failed. Throws {@linkcode UsageError} for exit code 2. */
  run(args: readonly string[]): Promise<number>;
}

/** The command line itself is wrong; shown with a pointer to `--help`, exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Something that its user can put right, found by the program itself; exit code 1, no stack trace. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

/** Which flags a verb takes. */
export interface FlagSpec {
  /** Flags without a value. */
  readonly boolean?: readonly string[];
  /** Flags with one value. */
  readonly string?: readonly string[];
  /** Flags whose value, a number, may be left out, with what it is then. */
  readonly optional?: Readonly<Record<string, number>>;
  /** Flags with one value or more: everything up to the next flag. */
  readonly lists?: readonly string[];
  /** Names of the positional arguments; one that ends in `?` may be missing, one in `...` may be there many times. */
  readonly positional?: readonly string[];
}

/** Flags as they were given, by name; see {@linkcode readFlags}. */
export interface Flags {
  has(name: string): boolean;
  text(name: string): string | undefined;
  /** A number, checked against the bounds (both included). Throws {@linkcode UsageError}. */
  number(name: string, bounds?: { min?: number; max?: number; integer?: boolean }): number | undefined;
  /** The values of a flag that takes many; undefined where it is not given. */
  list(name: string): readonly string[] | undefined;
  /** Positional arguments, in order. */
  readonly positional: readonly string[];
}

/** Reads the arguments of a verb. Throws {@linkcode UsageError} that names what is unknown, missing or too much. */
export function readFlags(given: readonly string[], spec: FlagSpec): Flags {
  const optional = Object.keys(spec.optional ?? {}), strings = [...spec.string ?? [], ...optional];
  const lists = new Map<string, string[]>();
  const known = [...spec.boolean ?? [], ...strings, ...spec.lists ?? []];
  given = takeLists(given, spec.lists ?? [], lists);
  // What follows is the value only if it is a number: it may as well be a positional argument.
  const isNumber = (text: string | undefined) => Boolean(text?.trim()) && !Number.isNaN(Number(text));
  const left = (arg: string | undefined) => arg?.startsWith("--") && optional.includes(arg.slice(2));
  // "--temperature -1": what looks like a flag is a number where a value is due.
  given = given.flatMap((arg, i) => {
    const takes = (flag: string | undefined) => flag?.startsWith("--") && strings.includes(flag.slice(2));
    const negative = (text: string | undefined) => text !== undefined && /^-\.?\d/.test(text);
    if (takes(arg) && negative(given[i + 1])) return [`${arg}=${given[i + 1]}`];
    return takes(given[i - 1]) && negative(arg) ? [] : [arg];
  });
  const args = given.flatMap((arg, i) => {
    if (left(arg)) return [`${arg}=${isNumber(given[i + 1]) ? given[i + 1] : spec.optional![arg.slice(2)]}`];
    return left(given[i - 1]) && isNumber(arg) ? [] : [arg];
  });
  for (const flag of strings) {
    const at = args.indexOf(`--${flag}`);
    if (at >= 0 && (args[at + 1] === undefined || args[at + 1].startsWith("--"))) {
      throw new UsageError(`--${flag} needs a value.`);
    }
  }
  for (const flag of strings) {
    if (args.filter((arg) => arg === `--${flag}` || arg.startsWith(`--${flag}=`)).length > 1) {
      throw new UsageError(`--${flag} is given twice.`);
    }
  }
  const parsed = parseArgs(args, {
    boolean: spec.boolean ?? [],
    // "_" keeps positional arguments as they were typed: a folder may be called 007.
    string: [...strings, "_"],
    unknown: (arg) => {
      if (!arg.startsWith("-")) return true;
      const name = arg.replace(/^-+/, "").split("=")[0];
      const near = nearest(name, known);
      throw new UsageError(
        `There is no flag --${name}${near ? `; did you mean --${near}?` : "."}` +
          (known.length ? ` Known: ${known.map((k) => `--${k}`).join(", ")}.` : ""),
      );
    },
  });
  const positional = parsed._.map(String), wanted = spec.positional ?? [];
  const missing = wanted[positional.length];
  if (missing !== undefined && !missing.endsWith("?")) throw new UsageError(`${missing} is missing.`);
  if (positional.length > wanted.length && !wanted.at(-1)?.endsWith("...")) {
    throw new UsageError(`"${positional[wanted.length]}" is one argument too many.`);
  }
  const text = (name: string) => {
    const value = parsed[name];
    return value === undefined ? undefined : String(value);
  };
  return {
    positional,
    has: (name) => parsed[name] === true,
    text,
    list: (name) => lists.get(name),
    number: (name, { min = -Infinity, max = Infinity, integer = false } = {}) => {
      const given = text(name);
      if (given === undefined) return undefined;
      const value = Number(given);
      if (given.trim() === "" || !(value >= min && value <= max) || (integer && !Number.isInteger(value))) {
        const range = `${min > -Infinity ? ` from ${min}` : ""}${max < Infinity ? ` up to ${max}` : ""}`;
        throw new UsageError(
          `--${name} takes ${integer ? "a whole number" : "a number"}${range}, not "${given}".`,
        );
      }
      return value;
    },
  };
}

/** Puts the values of flags that take many aside and answers with the other arguments. */
function takeLists(
  given: readonly string[],
  names: readonly string[],
  into: Map<string, string[]>,
): readonly string[] {
  const rest: string[] = [];
  let values: string[] | undefined;
  for (const arg of given) {
    const name = arg.startsWith("--") ? arg.slice(2).split("=")[0] : undefined;
    if (name === undefined && values !== undefined) values.push(arg);
    else if (name !== undefined && names.includes(name)) {
      values = into.get(name) ?? [];
      into.set(name, values);
      if (arg.includes("=")) values.push(arg.slice(name.length + 3));
    } else {
      values = undefined;
      rest.push(arg);
    }
  }
  for (const [name, values] of into) {
    if (values.length === 0) throw new UsageError(`--${name} needs a value.`);
  }
  return rest;
}

/** Writes one object as a line on stdout: the answer of `--json`. */
export function printJson(value: unknown): void {
  console.log(JSON.stringify(value));
}

/** Writes text for people to stderr, so that stdout stays for machines. */
export function say(text: string): void {
  console.error(text);
}
