/**
 * Files of text that a verb is given: recipes, descriptions of data, clusters.
 *
 * @module
 */
import { CommandError } from "./verb.ts";

/** The text of a file. `kind` says in errors what it should be: "recipe". Throws {@linkcode CommandError}. */
export async function readTextFile(path: string, kind: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new CommandError(`There is no ${kind} ${path}.`);
    if (error instanceof Deno.errors.IsADirectory) {
      throw new CommandError(`${path} is a folder, not a ${kind}.`);
    }
    throw new CommandError(`The ${kind} ${path} cannot be read: ${(error as Error).message}`);
  }
}
