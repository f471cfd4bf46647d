/** The options of `parseArgs` that are used here. */
export interface ParseOptions {
  boolean?: readonly string[];
  string?: readonly string[];
  collect?: readonly string[];
  default?: Readonly<Record<string, unknown>>;
  alias?: Readonly<Record<string, string>>;
  stopEarly?: boolean;
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}
/** Flags by name; positional arguments under `_`. */
export function parseArgs(
  args: readonly string[],
  options?: ParseOptions,
): { _: (string | number)[]; [flag: string]: unknown };
