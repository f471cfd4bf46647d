/**
 * `deno task demo`: the main job in small, on one machine. A coordinator and three workers as processes of their own,
 * WebRTC between them, train a small dense model, grow it, turn it into a bilingual mixture of experts and train on; then
 * it is measured and writes something. With --compare the same model is trained from scratch with as much arithmetic.
 *
 * @module
 */
import { fromFileUrl, join, relative } from "@std/path";
import { table } from "../coordinator/amounts.ts";
import { writeReport } from "../coordinator/report/report_files.ts";
import { quietDriver } from "../cli/driver.ts";
import { files, modelFolder } from "../cli/model_folder.ts";
import { textLoss } from "../cli/text_loss.ts";
import { openDevice } from "../kernels/mod.ts";
import { openCheckpoint } from "../model/checkpoint/checkpoint.ts";
import { generate } from "../model/text/generate.ts";
import { LoadedModel } from "../model/layers/local_model.ts";
import { loadTokenizer } from "../model/text/load_tokenizer.ts";
import { baselines } from "./baselines.ts";
import { chinese, type Corpus, english } from "./corpus.ts";
import { fromScratch } from "./from_scratch.ts";
import { type Running, volary } from "./processes.ts";

const root = fromFileUrl(new URL("../", import.meta.url));
const folder = join(root, "runs", "demo-mesh");
const WORKERS = 3;
/** Training sees windows of this many tokens, so the text is measured in the same. */
const SEQUENCE = 128;
const say = (text = "") => console.error(text);
const near = (path: string) => relative(Deno.cwd(), path) || ".";

async function demo({ compare }: { readonly compare: boolean }): Promise<void> {
  const started = performance.now();
  quietDriver();
  const device = await openDevice();
  say(`Device: ${device.info.name} (${device.info.kind})`);
  if (device.info.kind === "reference") {
    say(
      "There is no WebGPU adapter here, so everything runs on the plain-array device, on the processor. With a GPU, install its\n" +
        "Vulkan driver; a software adapter on Debian or Ubuntu:  apt-get install -y mesa-vulkan-drivers",
    );
  }
  await Deno.remove(folder, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(folder, { recursive: true });
  const corpora = await writeTexts();
  const recipe = join(folder, "recipe.toml");
  await Deno.copyFile(join(root, "demo", "demo.toml"), recipe);

  let model = "", scratch = "";
  await onMesh(device.info.kind, async (train) => {
    model = await train(recipe);
    if (!compare) return;
    say("\nThe same model from scratch, with as much arithmetic:");
    scratch = await train(await scratchRecipe());
  });
  say();
  await measure(model, scratch, corpora, device);
  device.close();
  if (compare) {
    const { data } = await writeReport(files, join(folder, "demo"), join(folder, "demo-scratch"));
    const { arithmetic, notes } = data.savings!;
    say(`Arithmetic saved by the recipe: ${arithmetic.toFixed(2)} x. ${notes[0]}`);
  }
  say(`The report with its curves is ${near(join(folder, "demo", "report.html"))}`);
  say(`Everything took ${((performance.now() - started) / 1000).toFixed(0)} s.`);
}

async function writeTexts(): Promise<Corpus[]> {
  const corpora = [await english(), chinese()];
  for (const { language, train, validation } of corpora) {
    const name = join(folder, language.toLowerCase());
    await Deno.writeTextFile(`${name}.train.txt`, train);
    await Deno.writeTextFile(`${name}.validation.txt`, validation);
  }
  const megabytes = corpora.map(({ language, train }) => `${language} ${(train.length / 1e6).toFixed(1)} MB`);
  say(`Text:   WordNet glosses and CC-CEDICT (${megabytes.join(", ")}), byte by byte`);
  return corpora;
}

/** Trains a recipe on a mesh that is up and answers with the model's folder. */
type Train = (recipe: string) => Promise<string>;

/** Starts the mesh, hands `work` what trains on it, and ends it. */
async function onMesh(device: "webgpu" | "reference", work: (train: Train) => Promise<void>): Promise<void> {
  const running: Running[] = [];
  try {
    const up = volary("the coordinator", ["up", "--port", "0", "--state", folder]);
    running.push(up);
    const { invite } = await first(up, "up") as { invite: string };
    for (let i = 1; i <= WORKERS; i++) {
      const args = [
        "join",
        invite,
        "--name",
        `w${i}`,
        "--device",
        device,
        "--key",
        join(folder, `w${i}.key`),
      ];
      // The workers share the processor: one thread of the software adapter each.
      const worker = volary(`worker w${i}`, args, { env: { LP_NUM_THREADS: "1" } });
      running.push(worker);
      first(worker, "ended").catch(() => {}); // how it ended is seen below
    }
    say(`Mesh:   a coordinator and ${WORKERS} workers, one process each, WebRTC data channels (werift)\n`);
    // A worker that cannot start would leave the run waiting for ever.
    const failed = Promise.race(running.map(async (process) => {
      await process.status;
      throw new Error(`${process.name} ended early. It said:\n${process.said()}`);
    }));
    failed.catch(() => {});
    await work(async (recipe) => {
      const args = ["run", recipe, "--state", folder, "--workers", String(WORKERS)];
      const run = volary("the run", args, { show: true });
      try {
        return (await Promise.race([first(run, "done") as Promise<{ path: string }>, failed])).path;
      } finally {
        await run.end();
      }
    });
  } finally {
    await Promise.all(running.map((process) => process.end()));
  }
}

/**
 * The first object of an event's name; an error with what the process said where it ends before. Everything after it
 * is read and dropped: a process whose pipe is full stands still.
 */
function first(process: Running, event: string): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    (async () => {
      for await (const object of process.events) if (object.event === event) resolve(object);
      throw new Error(`${process.name} ended before it was done. ${process.said()}`.trim());
    })().catch(reject);
  });
}

/** Writes the recipe that trains the demo's last model from nothing. */
async function scratchRecipe(): Promise<string> {
  const run = join(folder, "demo"), path = join(folder, "scratch.toml");
  const { data } = await writeReport(files, run);
  const { config } = await openCheckpoint(files, await modelFolder(run));
  await Deno.writeTextFile(
    path,
    fromScratch(await Deno.readTextFile(join(folder, "recipe.toml")), data, config),
  );
  return path;
}

async function measure(
  path: string,
  scratch: string,
  corpora: readonly Corpus[],
  device: Awaited<ReturnType<typeof openDevice>>,
) {
  const tokenizer = await loadTokenizer(files, path);
  const model = await LoadedModel.load(device, await openCheckpoint(files, path));
  const bytes = (text: string) => new TextEncoder().encode(text);
  const validation = corpora.map((corpus) => corpus.validation).join("");
  const { bitsPerByte } = await textLoss(model, tokenizer, validation, SEQUENCE);
  const one = async (path: string, name: string) => {
    const other = await LoadedModel.load(device, await openCheckpoint(files, path));
    const { bitsPerByte } = await textLoss(other, tokenizer, validation, SEQUENCE);
    other.release();
    return { name, bitsPerByte };
  };
  const others = await baselines(bytes(corpora.map((corpus) => corpus.train).join("")), bytes(validation));
  say(`Validation text (${bytes(validation).length} bytes, no headword of it in training), bits per byte:`);
  const rest = [...(scratch === "" ? [] : [await one(scratch, "from scratch")]), ...others];
  const rows = [{ name: "this model", bitsPerByte }, ...rest]
    .map((row) => [`  ${row.name}`, row.bitsPerByte.toFixed(3), "#".repeat(Math.round(row.bitsPerByte * 8))]);
  say(table(rows).join("\n"));
  say();
  for (const [language, prompt] of [["English", "small "], ["Chinese", "中国 ["]]) {
    const ids = Uint32Array.from([...tokenizer.prefix, ...tokenizer.encode(prompt)]);
    const made: number[] = [];
    const options = { maxTokens: 120, temperature: 0.7, topP: 0.9, seed: 1, stop: tokenizer.eos };
    for await (const id of generate(model, ids, options)) made.push(id);
    say(`${language} sample:\n  ${(prompt + tokenizer.decode(made)).trim().replaceAll("\n", "\n  ")}\n`);
  }
  model.release();
  say(`The model is in ${near(path)}. More of it:`);
  say(`  npx -y deno@2.9.6 task volary generate ${near(path)} --prompt "water: "`);
}

if (import.meta.main) {
  try {
    const strange = Deno.args.find((arg) => arg !== "--compare");
    if (strange !== undefined) throw new Error(`The demo takes --compare or nothing, not ${strange}.`);
    await demo({ compare: Deno.args.includes("--compare") });
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    Deno.exit(1);
  }
}
