/**
 * A binary heap of pairs: by counts when a BPE is trained, by ranks when it is applied.
 *
 * @module
 */

/** An entry: how often, and which pair. */
export interface HeapEntry {
  readonly count: number;
  readonly key: number;
}

/** Gives out the largest count first, of equal ones the smallest key. */
export class PairHeap {
  readonly #entries: HeapEntry[] = [];

  push(count: number, key: number): void {
    const entries = this.#entries, entry = { count, key };
    let at = entries.length;
    entries.push(entry);
    for (let up = (at - 1) >> 1; at > 0 && before(entry, entries[up]); at = up, up = (at - 1) >> 1) {
      entries[at] = entries[up];
      entries[up] = entry;
    }
  }

  pop(): HeapEntry | undefined {
    const entries = this.#entries, top = entries[0], last = entries.pop();
    if (entries.length === 0 || last === undefined) return top;
    let at = 0;
    for (let down = 1; down < entries.length; down = 2 * at + 1) {
      if (down + 1 < entries.length && before(entries[down + 1], entries[down])) down++;
      if (!before(entries[down], last)) break;
      entries[at] = entries[down];
      at = down;
    }
    entries[at] = last;
    return top;
  }
}

function before(a: HeapEntry, b: HeapEntry): boolean {
  return a.count > b.count || (a.count === b.count && a.key < b.key);
}
