/**
 * The page by which a browser joins: read once, its programs bundled when the first browser asks for them.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import type { PageFile } from "../coordinator/admission/server.ts";
import css from "./page/page.css" with { type: "text" };
import html from "./page/index.html" with { type: "text" };

const SCRIPT = "text/javascript; charset=utf-8";
/** Programs by the path under which a browser asks for them. */
const programs: Readonly<Record<string, URL>> = {
  "/page.js": new URL("../worker/page.ts", import.meta.url),
  "/compute_thread.js": new URL("../worker/compute_thread.ts", import.meta.url),
};

/** Answers with the page's files; `problem` is told why a program could not be bundled. */
export function pageFiles(problem: (text: string) => void): (path: string) => Promise<PageFile | undefined> {
  const bundles = new Map<string, Promise<string | undefined>>();
  return async (path) => {
    if (path === "/") return { type: "text/html; charset=utf-8", text: html };
    if (path === "/page.css") return { type: "text/css; charset=utf-8", text: css };
    const program = Object.hasOwn(programs, path) ? programs[path] : undefined;
    if (program === undefined) return undefined;
    let bundled = bundles.get(path);
    if (bundled === undefined) bundles.set(path, bundled = bundle(program, problem));
    const text = await bundled;
    if (text === undefined) bundles.delete(path); // perhaps the next time
    return text === undefined ? undefined : { type: SCRIPT, text };
  };
}

/** The part of Deno's bundler that is used; its types are there with a flag only. */
interface Bundler {
  bundle(options: {
    readonly entrypoints: readonly string[];
    readonly platform: "browser";
    readonly minify: boolean;
    readonly write: false;
    readonly outputDir: string;
  }): Promise<{ readonly outputFiles?: readonly { text(): string }[] }>;
}

async function bundle(program: URL, problem: (text: string) => void): Promise<string | undefined> {
  try {
    const { outputFiles } = await (Deno as unknown as Bundler).bundle({
      entrypoints: [fromFileUrl(program)],
      platform: "browser",
      minify: true,
      write: false,
      outputDir: "bundle",
    });
    return outputFiles![0].text();
  } catch (error) {
    problem(
      `The page for browsers cannot be put together: ${error instanceof Error ? error.message : error}. ` +
        "Deno fetches its bundler when it is first needed; is the npm registry within reach?",
    );
  }
}
