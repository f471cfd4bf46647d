/** A headless Chromium and one page in it, driven over its own protocol. */

/** Chromium's program on this machine, or undefined. */
export async function chromium(): Promise<string | undefined> {
  for (const path of ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]) {
    try {
      if ((await Deno.stat(path)).isFile) return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** A page. */
export interface Page {
  /** The value of an expression in it. */
  evaluate(expression: string): Promise<unknown>;
  /** What it wrote to its console, and errors that nobody caught. */
  readonly log: string[];
  close(): Promise<void>;
}

/** Opens an address. `flags` are Chromium's own. */
export async function openPage(
  program: string,
  address: string,
  flags: readonly string[] = [],
): Promise<Page> {
  const profile = await Deno.makeTempDir();
  const process = new Deno.Command(program, {
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      ...flags,
      "about:blank",
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const end = async () => {
    try {
      process.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended by itself
    }
    await process.status;
    // Its other processes may still write for a moment.
    for (let tries = 0; tries < 20; tries++) {
      if (await Deno.remove(profile, { recursive: true }).then(() => true, () => false)) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  try {
    const port = await portOf(profile);
    const targets = await (await fetch(`http://127.0.0.1:${port}/json`)).json() as {
      type: string;
      webSocketDebuggerUrl: string;
    }[];
    const socket = new WebSocket(targets.find(({ type }) => type === "page")!.webSocketDebuggerUrl);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error("Chromium does not take a connection to its page"));
    });
    const waiting = new Map<number, (result: Record<string, unknown>) => void>(), log: string[] = [];
    let next = 0;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      waiting.get(message.id)?.(message.result ?? message.error);
      waiting.delete(message.id);
      if (/^(Runtime\.(consoleAPICalled|exceptionThrown)|Log\.entryAdded)$/.test(message.method)) {
        log.push(JSON.stringify(message.params));
      }
    };
    const call = (method: string, params: Record<string, unknown> = {}) => {
      const id = next++;
      socket.send(JSON.stringify({ id, method, params }));
      return new Promise<Record<string, unknown>>((resolve) => waiting.set(id, resolve));
    };
    for (const domain of ["Runtime", "Log", "Page"]) await call(`${domain}.enable`);
    await call("Page.navigate", { url: address });
    return {
      log,
      async evaluate(expression) {
        const { result } = await call("Runtime.evaluate", {
          expression,
          returnByValue: true,
          awaitPromise: true,
        }) as { result?: { value?: unknown } };
        return result?.value;
      },
      async close() {
        socket.close();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Where it listens: it says so in a file. */
async function portOf(profile: string): Promise<number> {
  for (let tries = 0; tries < 300; tries++) {
    const text = await Deno.readTextFile(`${profile}/DevToolsActivePort`).catch(() => "");
    if (text.includes("\n")) return Number(text.split("\n")[0]);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("Chromium did not start within 30 s");
}
