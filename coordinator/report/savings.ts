/**
 * What a recipe saves against training from scratch, as EfficientScale's Table 6 counts it (Zhang et al., "AquilaMoE",
 * 2024): days = tokens / (tokens a day); time saving = days from scratch / days of all phases; compute = days x devices x
 * operations a second of a device, compute saving likewise.
 *
 * @module
 */

/** One phase on its devices. */
export interface Leg {
  readonly name: string;
  readonly devices: number;
  /** Floating-point operations a second of one device: stated or measured. */
  readonly speed: number;
  readonly tokens: number;
  readonly tokensPerDay: number;
}

/** The two factors and what they come from. */
export interface Savings {
  /** Days from scratch / days of the recipe. */
  readonly time: number;
  /** Operations that the devices could have done from scratch / of the recipe. */
  readonly compute: number;
  readonly days: { readonly recipe: number; readonly scratch: number };
  /** Days x devices x operations a second x seconds of a day. */
  readonly operations: { readonly recipe: number; readonly scratch: number };
}

/** Days that a leg takes. */
function daysOf({ tokens, tokensPerDay }: Leg): number {
  return tokens / tokensPerDay;
}

/** The factors of a recipe's legs against those from scratch. */
export function savings(recipe: readonly Leg[], scratch: readonly Leg[]): Savings {
  const days = (legs: readonly Leg[]) => legs.reduce((sum, leg) => sum + daysOf(leg), 0);
  const operations = (legs: readonly Leg[]) =>
    legs.reduce((sum, leg) => sum + daysOf(leg) * 86_400 * leg.devices * leg.speed, 0);
  const both = {
    days: { recipe: days(recipe), scratch: days(scratch) },
    operations: { recipe: operations(recipe), scratch: operations(scratch) },
  };
  return {
    time: both.days.scratch / both.days.recipe,
    compute: both.operations.scratch / both.operations.recipe,
    ...both,
  };
}

/**
 * The extrapolation that stands for a run from scratch where none was made, as in Table 6: as many tokens as all phases of
 * the recipe together, at the rate and on the devices of its last phase.
 */
export function extrapolated(recipe: readonly Leg[]): Leg[] {
  const last = recipe[recipe.length - 1];
  return [{ ...last, name: "from scratch", tokens: recipe.reduce((sum, leg) => sum + leg.tokens, 0) }];
}

/** Table 6's legs; tokens in billions, operations a second in tera. */
export const paperLegs: readonly Leg[] = [
  { name: "prepare", devices: 480, speed: 989.5, tokens: 3600, tokensPerDay: 279 },
  { name: "scale up", devices: 1024, speed: 240, tokens: 1200, tokensPerDay: 70 },
  { name: "scale out", devices: 1024, speed: 240, tokens: 545, tokensPerDay: 25 },
];
