/** Files in memory, with folders, as the Runtime's storage. */
import type { Storage } from "../mesh/runtime.ts";

/** An empty file system; `files` is by path, folders have no entry of their own. */
export class MemoryStorage implements Storage {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #folders = new Set<string>();

  /** Puts a text file there. */
  text(path: string, text: string): void {
    this.files.set(path, new TextEncoder().encode(text));
  }

  /** The text of a file. */
  string(path: string): string {
    return new TextDecoder().decode(this.#file(path));
  }

  // deno-lint-ignore require-await
  async read(path: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const file = this.#file(path);
    if (end > file.length) throw new RangeError(`Cannot read bytes ${start} to ${end} of ${path}`);
    return file.slice(start, end);
  }

  size(path: string): Promise<number | undefined> {
    return Promise.resolve(this.files.get(path)?.length);
  }

  // deno-lint-ignore require-await
  async write(path: string, position: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const before = this.files.get(path) ?? new Uint8Array(0);
    const file = before.length >= position + bytes.length ? before : new Uint8Array(position + bytes.length);
    if (file !== before) file.set(before);
    file.set(bytes, position);
    this.files.set(path, file);
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  // deno-lint-ignore require-await
  async rename(from: string, to: string): Promise<void> {
    const moved = [...this.files].filter(([path]) => path === from || path.startsWith(from + "/"));
    if (moved.length === 0 && !this.#folders.has(from)) throw new Error(`There is no ${from}`);
    for (const [path, bytes] of moved) {
      this.files.delete(path);
      this.files.set(to + path.slice(from.length), bytes);
    }
    if (this.#folders.delete(from)) this.#folders.add(to);
  }

  makeFolder(path: string): Promise<void> {
    this.#folders.add(path);
    return Promise.resolve();
  }

  // deno-lint-ignore require-await
  async list(path: string): Promise<string[]> {
    const names = new Set<string>();
    for (const file of this.files.keys()) {
      if (file.startsWith(path + "/")) names.add(file.slice(path.length + 1).split("/")[0]);
    }
    if (names.size === 0 && !this.#folders.has(path)) throw new Error(`There is no folder ${path}`);
    return [...names].sort();
  }

  remove(path: string): Promise<void> {
    const inside = (name: string) => name === path || name.startsWith(path + "/");
    for (const folder of this.#folders) if (inside(folder)) this.#folders.delete(folder);
    for (const file of this.files.keys()) if (inside(file)) this.files.delete(file);
    return Promise.resolve();
  }

  #file(path: string): Uint8Array<ArrayBuffer> {
    const file = this.files.get(path);
    if (file === undefined) throw new Error(`There is no ${path}`);
    return file;
  }
}
