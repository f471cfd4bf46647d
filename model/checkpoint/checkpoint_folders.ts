/**
 * The folders of a checkpoint as a whole: what stands under a name, and bringing back what a replacement had moved aside.
 *
 * @module
 */
import { CheckpointError } from "../errors.ts";
import { type FileStore, folderOf, joinPath, withoutSlash } from "../files.ts";
import { stateFolder } from "./training_state.ts";

/**
 * Brings back a checkpoint whose replacement was cut off (by a crash or a power cut) after it had been moved aside.
 * Answers true if there was something to bring back.
 */
export async function recoverCheckpoint(files: FileStore, path: string): Promise<boolean> {
  const folder = withoutSlash(path), state = stateFolder(folder);
  if (await entries(files, folder) !== undefined || await entries(files, folder + ".old") === undefined) {
    return false;
  }
  if (await entries(files, state + ".old") !== undefined) {
    await removeFolder(files, state); // the new one, whose model never came into place
    await files.rename(state + ".old", state);
  }
  await files.rename(folder + ".old", folder);
  await files.sync(folderOf(folder));
  return true;
}

/** @throws {CheckpointError} if something stands under a new checkpoint's name. */
export async function refuseExisting(files: FileStore, folder: string): Promise<void> {
  for (const path of [withoutSlash(folder), stateFolder(folder)]) {
    if ((await entries(files, path))?.length || await files.size(path) !== undefined) {
      throw new CheckpointError(
        `${path} exists already. Nothing was written; choose another name or remove it.`,
      );
    }
  }
}

/** Names in a folder; undefined where there is none. */
export async function entries(files: FileStore, folder: string): Promise<string[] | undefined> {
  try {
    return await files.list(folder);
  } catch {
    return undefined;
  }
}

/** Removes a folder of plain files, if it is there. */
export async function removeFolder(files: FileStore, folder: string): Promise<void> {
  const names = await entries(files, folder);
  if (names === undefined) return;
  for (const name of names) await files.remove(joinPath(folder, name));
  await files.remove(folder);
}
