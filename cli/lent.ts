/**
 * What a person lends of a machine: how it is said to `join`, and how it is shown.
 *
 * @module
 */
import { limits } from "../mesh/limits.ts";
import type { Lent } from "../mesh/control/messages.ts";
import { CommandError, type Flags, UsageError } from "./verb.ts";

/** The lines of a help text for {@linkcode LENT_FLAGS}. */
export const LENT_HELP =
  `  --share PART    of the device's time, for instance 50%: it rests after each piece of work; 5% or
                  more
  --bandwidth N   what this worker sends to others at most, for instance 20Mbit (a second), over all
                  links together
  --until TIME    leave at this time of day, for instance 18:00, saving a run under way first`;

/** Options that take a value. */
export const LENT_FLAGS = ["share", "bandwidth", "until"] as const;

/** What the flags say; undefined where they say nothing. `now` is the moment that a time of day is next after. */
export function lentOf(flags: Flags, now: Date): Lent | undefined {
  const [share, sending, until] = [
    shareOf(flags.text("share")),
    sendingOf(flags.text("bandwidth")),
    untilOf(flags.text("until"), now),
  ];
  if (share === undefined && sending === undefined && until === undefined) return undefined;
  return {
    ...(share === undefined ? {} : { share }),
    ...(sending === undefined ? {} : { sending }),
    ...(until === undefined ? {} : { until }),
  };
}

/** "50%" as 0.5; undefined for all of it. */
function shareOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, amount] = text.match(/^(\d+(?:\.\d+)?)\s*%$/) ?? [], share = Number(amount) / 100;
  if (amount === undefined || share > 1) {
    throw new UsageError(`--share takes a part of the device's time such as 50%, not "${text}".`);
  }
  if (share < limits.leastShare) {
    throw new CommandError(
      `--share ${text} is too little: others would wait for this worker all the time. Lend at least ` +
        `${100 * limits.leastShare}%.`,
    );
  }
  return share === 1 ? undefined : share;
}

/** "20Mbit", "500 kbit", "1.5Gbit/s" in bytes a second. */
function sendingOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const [, amount, unit] = text.match(/^(\d+(?:\.\d+)?)\s*([kMG])bit(?:\/s)?$/i) ?? [];
  if (amount === undefined) {
    throw new UsageError(`--bandwidth takes bits a second such as 20Mbit or 1Gbit, not "${text}".`);
  }
  const bytes = Number(amount) * { k: 1e3, m: 1e6, g: 1e9 }[unit.toLowerCase() as "k" | "m" | "g"] / 8;
  if (bytes < limits.leastSending) {
    throw new CommandError(
      `--bandwidth ${text} is too little for activations: lend at least ` +
        `${limits.leastSending * 8 / 1e6}Mbit.`,
    );
  }
  return bytes;
}

/** The next moment at which this machine's clocks show a time of day. */
function untilOf(text: string | undefined, now: Date): number | undefined {
  if (text === undefined) return undefined;
  const [, hours, minutes] = (text.match(/^(\d{1,2}):(\d\d)$/) ?? []).map(Number);
  if (hours === undefined || hours > 23 || minutes > 59) {
    throw new UsageError(`--until takes a time of day such as 18:00, not "${text}".`);
  }
  const then = new Date(now);
  then.setHours(hours, minutes, 0, 0);
  if (then <= now) then.setDate(then.getDate() + 1);
  return then.getTime();
}

/** What is lent besides memory, for tables; empty where it is everything. */
export function lentText(lent: Lent | undefined): string {
  const { share, sending, until } = lent ?? {};
  return [
    ...(share === undefined ? [] : [`${Math.round(100 * share)}%`]),
    ...(sending === undefined ? [] : [`${Number((sending * 8 / 1e6).toPrecision(3))} Mbit/s`]),
    ...(until === undefined ? [] : [`until ${new Date(until).toTimeString().slice(0, 5)}`]),
  ].join(", ");
}
