/**
 * Work that the platform does on threads of its own, such as signatures: it takes no time of a virtual clock, and its results
 * come in the order in which it was asked for, so that a simulation goes the same way every time.
 *
 * @module
 */

interface Pending {
  /** Resolves when the work is done, whatever came of it. */
  readonly done: Promise<void>;
  readonly release: () => void;
}

const pending: Pending[] = [];
/** Virtual clocks that run at the moment. */
let clocks = 0;

/** The same promise; while a virtual clock runs, one that settles when the clock's turn for it has come. */
export function outside<T>(work: Promise<T>): Promise<T> {
  if (clocks === 0) return work;
  return new Promise((resolve, reject) => {
    const done = work.then(() => {}, () => {});
    pending.push({ done, release: () => work.then(resolve, reject) });
  });
}

/** From now on results wait for {@linkcode releaseNext}, until the answer is called. */
export function holdResults(): () => void {
  clocks++;
  return () => {
    if (--clocks === 0) { for (const { release } of pending.splice(0)) release(); }
  };
}

/** Waits for the work that was asked for first and lets its result go; false where there is none. */
export async function releaseNext(): Promise<boolean> {
  if (pending.length === 0) return false;
  const { done, release } = pending.shift()!;
  await done;
  release();
  return true;
}
