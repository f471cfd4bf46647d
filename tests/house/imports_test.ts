/** The import directions of .github/ARCHITECTURE.md, on everything that is reachable. */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join, relative, toFileUrl } from "@std/path";

const root = fromFileUrl(new URL("../../", import.meta.url));

/** Folders that a folder's modules may reach, itself included; `std` and packages are open to all. */
const reach: Record<string, readonly string[]> = {
  kernels: ["kernels"],
  mesh: ["mesh"],
  model: ["model", "kernels"],
  data: ["data", "model"],
  worker: ["worker", "mesh", "model", "kernels"],
  coordinator: ["coordinator", "data", "mesh", "model"],
  cli: ["cli", "coordinator", "data", "worker", "mesh", "model", "kernels"],
  demo: ["demo", "cli", "coordinator", "data", "worker", "mesh", "model", "kernels"],
  bench: ["bench", "demo", "cli", "coordinator", "data", "worker", "mesh", "model", "kernels"],
};

/** Parts of a folder, each of which computes with nothing of those behind it (types may be named both ways). */
const order: Record<string, readonly string[]> = {
  mesh: ["tensors", "identity", "control", "link", "transports"],
  model: ["checkpoint", "growth", "layers", "text", "conformance"],
  coordinator: [
    "schedule",
    "cost",
    "simulator",
    "routes",
    "planner",
    "recipe",
    "report",
    "run",
    "admission",
  ],
};

/** The files of kernels/ that the coordinator may reach: formulas without device or program. */
const costs = /^kernels\/(costs|[a-z0-9_]+\/cost)\.ts$/;

async function sources(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(join(root, folder))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) found.push(...await sources(path));
    else if (entry.name.endsWith(".ts") && !entry.name.endsWith(".d.ts")) found.push(path);
  }
  return found;
}

/** For each project file, the project files that it imports, threads that it starts included. */
async function graph(): Promise<Map<string, string[]>> {
  const files = (await Promise.all([...Object.keys(reach), "tests"].map(sources))).flat();
  files.push(...["cli.ts", "mod.ts"]);
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(
      entry,
      files.map((file) => `import ${JSON.stringify(toFileUrl(join(root, file)).href)};`).join("\n"),
    );
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--no-remote", "--config", join(root, "deno.json"), entry],
    }).output();
    assert(code === 0, new TextDecoder().decode(stderr));
    const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
      modules: {
        specifier: string;
        error?: string;
        dependencies?: { code?: { specifier: string }; type?: { specifier: string } }[];
      }[];
    };
    const edges = new Map<string, string[]>();
    const inside = (url: string | undefined) => {
      if (!url?.startsWith("file:")) return [];
      const path = relative(root, fromFileUrl(url));
      return path.startsWith("..") ? [] : [path];
    };
    for (const module of modules) {
      const [file] = inside(module.specifier);
      if (file === undefined) continue;
      assert(module.error === undefined, `${file}: ${module.error}`);
      const targets = (module.dependencies ?? []).flatMap((d) => [
        ...inside(d.code?.specifier),
        ...inside(d.type?.specifier),
      ]);
      // What one of these starts is a thread, which is an import too; demo, bench and tests start processes.
      if (/^(kernels|mesh|model|data|worker|coordinator)\/.*\.ts$/.test(file)) {
        const text = await Deno.readTextFile(join(root, file));
        for (const [, target] of text.matchAll(/new URL\(\s*"(\.[^"]+\.ts)",\s*import\.meta\.url/g)) {
          targets.push(relative(root, fromFileUrl(new URL(target, toFileUrl(join(root, file))))));
        }
      }
      edges.set(file, targets);
    }
    return edges;
  } finally {
    await Deno.remove(entry);
  }
}

const edges = await graph();

function reachable(from: string): Map<string, string> {
  const via = new Map<string, string>();
  const queue = [from];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    for (const next of edges.get(file) ?? []) {
      if (via.has(next) || next === from) continue;
      via.set(next, file);
      queue.push(next);
    }
  }
  return via;
}

Deno.test("each folder reaches only what it may", () => {
  const wrong: string[] = [];
  for (const file of edges.keys()) {
    const allowed = reach[file.split("/")[0]];
    if (allowed === undefined) continue;
    for (const [target, importer] of reachable(file)) {
      const folder = target.split("/")[0];
      if (folder === "std" || target === "deno.json") continue;
      if (file.startsWith("coordinator/") && costs.test(target)) continue;
      if (!allowed.includes(folder)) wrong.push(`${file} reaches ${target} (through ${importer})`);
    }
  }
  assertEquals(wrong, []);
});

Deno.test("the parts of a folder stand in an order, and nothing of an earlier one runs on a later one", async () => {
  const wrong: string[] = [];
  let seen = 0;
  for (const [folder, parts] of Object.entries(order)) {
    for (const file of await sources(folder)) {
      const [, part, name] = file.split("/");
      if (name === undefined) continue;
      assert(parts.includes(part), `${folder}/${part} is not in the list of parts`);
      const text = await Deno.readTextFile(join(root, file));
      for (
        const [, target] of text.matchAll(
          /^(?:import|export) (?!type\b)[^;]*?from "\.\.\/([a-z_]+)\/[^"]*";/gm,
        )
      ) {
        seen++;
        if (parts.indexOf(target) > parts.indexOf(part)) wrong.push(`${file} imports ${folder}/${target}`);
      }
    }
  }
  assertEquals(wrong, []);
  assert(seen > 50, "the check sees what it looks for");
});

Deno.test("no file imports itself by way of others, not for a type either", () => {
  const circles = [...edges.keys()].flatMap((file) =>
    [...reachable(file).keys()].filter((last) => edges.get(last)?.includes(file))
      .map((last) => `${file} reaches ${last}, which imports it`)
  );
  assertEquals(circles, []);
});

Deno.test("nobody imports cli.ts, and only tests import mod.ts", () => {
  const wrong = [...edges].flatMap(([file, targets]) =>
    targets.filter((t) => t === "cli.ts" || (t === "mod.ts" && !file.startsWith("tests/")))
      .map((t) => `${file} imports ${t}`)
  );
  assertEquals(wrong, []);
});

Deno.test("the check sees imports, kinds of import and threads", () => {
  assert(edges.size > 50);
  assert([...edges.values()].some((targets) => targets.includes("mesh/plan.ts")));
  assert(reachable("cli.ts").has("worker/compute_thread.ts"), "a thread is followed");
});
