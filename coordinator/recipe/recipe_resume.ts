/**
 * Whether a run may go on with a recipe that is not quite the one it was begun with.
 *
 * @module
 */
import { RecipeError } from "../errors.ts";
import type { Recipe } from "./recipe.ts";

/** Keys of a phase that may change when a run goes on: they say when to look and when to end, not what is computed. */
const changeable = [
  "steps",
  "evaluate_every",
  "evaluate_batches",
  "checkpoint_every",
  "stages",
  "expert_hosts",
];

/**
 * Only the mesh, what is reported, and the lengths of phases that are not finished (of which there are `finished`) may
 * differ: the order of the data depends on what was read before. (A changed length changes the learning rates of a
 * schedule that is still under way.) Throws {@linkcode RecipeError} naming what differs.
 */
export function checkResume(begun: Recipe, now: Recipe, finished = 0): void {
  const flat = (recipe: Recipe) => {
    const { mesh: _, phases, data: { epochs: __, ...data }, ...others } = recipe;
    const rest = { ...others, data };
    const entries = new Map<string, string>();
    const walk = (value: unknown, at: string) => {
      if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        for (const [key, inner] of Object.entries(value)) walk(inner, at ? `${at}.${key}` : key);
      } else entries.set(at, JSON.stringify(value));
    };
    walk(rest, "");
    phases.forEach((phase, p) => {
      for (const [key, value] of Object.entries(phase)) {
        const free = changeable.includes(key) && !(key === "steps" && p < finished);
        if (!free) entries.set(`[[phase]] ${p + 1}: ${key}`, JSON.stringify(value));
      }
    });
    return entries;
  };
  const before = flat(begun), after = flat(now);
  const differs = [...new Set([...before.keys(), ...after.keys()])]
    .filter((key) => before.get(key) !== after.get(key));
  if (differs.length === 0) return;
  const list = differs.slice(0, 4).map((key) => `${key} (was ${before.get(key) ?? "absent"})`).join(", ");
  throw new RecipeError(
    `The run was begun with another recipe: ${list} ${differs.length === 1 ? "differs" : "differ"}. ` +
      "Resume with what it was begun with (a copy lies in the run's folder), or give the recipe another " +
      "name and start anew.",
  );
}
