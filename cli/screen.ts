/**
 * Text on a terminal: lines that stay, and one at the bottom that is replaced.
 *
 * @module
 */

/** Writes to stderr; without a terminal, live lines are left out. */
export class Screen {
  readonly live: boolean = Deno.stderr.isTerminal();
  #shown = false;

  /** A text that stays. */
  say(text: string): void {
    this.#clear();
    console.error(text);
  }

  /** Replaces the line at the bottom. */
  replace(line: string): void {
    if (!this.live) return;
    this.#clear();
    // Some terminals do not say how wide they are.
    const columns = Deno.consoleSize().columns || 80;
    this.#write(line.slice(0, columns - 1));
    this.#shown = true;
  }

  /** Shows a line for as long as some work takes that says nothing by itself. */
  during<T>(line: string, work: () => T): T {
    this.replace(line);
    try {
      return work();
    } finally {
      this.end();
    }
  }

  /** Leaves the terminal as other programs expect it. */
  end(): void {
    this.#clear();
  }

  #clear(): void {
    if (this.#shown) this.#write("\r\x1b[K");
    this.#shown = false;
  }

  #write(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}
