/**
 * Numbers, sizes, durations and tables as people read them.
 *
 * @module
 */

/** Aligned columns, two blanks apart; numbers stay where they are. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, c) => widths[c] = Math.max(widths[c] ?? 0, cell.length));
  return rows.map((row) => row.map((cell, c) => cell.padEnd(widths[c])).join("  ").trimEnd());
}

/** Prefixes of thousands, smallest first. */
const PREFIXES = ["", "k", "M", "G", "T", "P", "E"] as const;

/** Three digits and the prefix of thousands that belongs to them. */
function scaled(n: number): [digits: string, prefix: string] {
  let prefix = 0;
  // What rounds to 1000 takes the next prefix.
  while (prefix + 1 < PREFIXES.length && n >= 999.5) {
    n /= 1_000;
    prefix++;
  }
  if (prefix > 0) return [n >= 1_000 ? n.toFixed(0) : n.toPrecision(3), PREFIXES[prefix]];
  return [n >= 100 ? n.toFixed(0) : `${Number(n.toPrecision(3))}`, ""];
}

/** 12,345 as "12.3k". */
export function number(n: number): string {
  return Number.isFinite(n) ? scaled(n).join("") : "-";
}

/** 12,345 bytes a second as "12.3 kB/s", of the unit "B/s". */
export function quantity(n: number, unit: string): string {
  return Number.isFinite(n) ? scaled(n).join(" ") + unit : "-";
}

/** Bytes with a unit. */
export function size(bytes: number): string {
  for (
    const [unit, name] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]] as const
  ) {
    if (bytes >= unit) return `${(bytes / unit).toFixed(1)} ${name}`;
  }
  return `${bytes} B`;
}

/** Seconds with a tenth. */
export function seconds(s: number): string {
  return `${s.toFixed(1)} s`;
}

/** "1 h 02 min", "3 min 20 s", "12 s". */
export function duration(s: number): string {
  const whole = Math.max(0, Math.round(s));
  const pad = (n: number) => String(n).padStart(2, "0");
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${pad(Math.floor(whole / 60) % 60)} min`;
  if (whole >= 60) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${whole} s`;
}
