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

/** 12,345 as "12.3k". */
export function number(n: number): string {
  if (!Number.isFinite(n)) return "-";
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (n >= unit) return `${(n / unit).toPrecision(3)}${name}`;
  }
  return n >= 100 ? n.toFixed(0) : `${Number(n.toPrecision(3))}`;
}

/** Bytes with a unit. */
export function size(bytes: number): string {
  for (const [unit, name] of [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]] as const) {
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
