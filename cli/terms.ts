/**
 * How long an invite is good and for how many, as people type it.
 *
 * @module
 */
import type { InviteTerms } from "../coordinator/admission/admission.ts";
import { limits } from "../mesh/limits.ts";
import { type Flags, UsageError } from "./verb.ts";

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };
/** An invite that nobody thought about: the machines of one lab, within a day. */
const DEFAULT_USES = 8, DEFAULT_EXPIRES = "24h";

/** For the help of verbs that make invites. */
export const DEFAULT_TERMS = { uses: DEFAULT_USES, expires: DEFAULT_EXPIRES };

/** The terms that `--USES` and `--expires` ask for. Throws {@linkcode UsageError}. */
export function termsOf(flags: Flags, usesFlag: string): Required<InviteTerms> {
  const uses = flags.number(usesFlag, { min: 1, max: limits.inviteUses, integer: true }) ?? DEFAULT_USES;
  return { uses, forMs: timeOf(flags.text("expires") ?? DEFAULT_EXPIRES) };
}

/** "30m", "2h", "7d" in ms; a bare number is hours. */
function timeOf(text: string): number {
  const [, amount, unit = "h"] = text.match(/^(\d+(?:\.\d+)?)\s*([mhd])?$/) ?? [];
  const ms = amount === undefined ? NaN : Math.round(Number(amount) * UNITS[unit]);
  if (!(ms >= 1 && ms <= limits.inviteMs)) {
    throw new UsageError(`--expires takes a time such as 30m, 2h or 7d, a year at most, not "${text}".`);
  }
  return ms;
}
