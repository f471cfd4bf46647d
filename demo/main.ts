/**
 * `deno task demo`: the main job in small, on one machine. A coordinator and three workers as processes of their own,
 * WebRTC between them, train a bilingual mixture-of-experts model; then it is measured and writes something.
 *
 * @module
 */
import { fromFileUrl, join, relative } from "@std/path";
import { table } from "../coordinator/report.ts";
import { quietDriver } from "../cli/driver.ts";
import { files } from "../cli/model_folder.ts";
import { textLoss } from "../cli/text_loss.ts";
import { openDevice } from "../kernels/mod.ts";
import { openCheckpoint } from "../model/checkpoint.ts";
import { generate } from "../model/generate.ts";
import { LoadedModel } from "../model/local_model.ts";
import { loadTokenizer } from "../model/tokenizer.ts";
import { baselines } from "./baselines.ts";
import { chinese, type Corpus, english } from "./corpus.ts";
import { type Running, volary } from "./processes.ts";

const root = fromFileUrl(new URL("../", import.meta.url));
const folder = join(root, "runs", "demo-mesh");
const WORKERS = 3;
/** Training sees windows of this many tokens, so the text is measured in the same. */
const SEQUENCE = 128;
const say = (text = "") => console.error(text);
const near = (path: string) => relative(Deno.cwd(), path) || ".";

async function demo(): Promise<void> {
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

  const model = await train(recipe, device.info.kind);
  say();
  await measure(model, corpora, device);
  device.close();
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

/** Starts the mesh, trains the recipe and answers with the model's folder. */
async function train(recipe: string, device: "webgpu" | "reference"): Promise<string> {
  const running: Running[] = [];
  try {
    const up = volary("the coordinator", ["up", "--port", "0", "--state", folder]);
    running.push(up);
    const { invite } = await first(up, "up") as { invite: string };
    for (let i = 1; i <= WORKERS; i++) {
      const args = ["join", invite, "--name", `w${i}`, "--device", device];
      // The workers share the processor: one thread of the software adapter each.
      const worker = volary(`worker w${i}`, args, { env: { LP_NUM_THREADS: "1" } });
      running.push(worker);
      first(worker, "ended").catch(() => {}); // how it ended is seen below
    }
    say(`Mesh:   a coordinator and ${WORKERS} workers, one process each, WebRTC data channels (werift)\n`);
    const args = ["run", recipe, "--state", folder, "--workers", String(WORKERS)];
    const run = volary("the run", args, { show: true });
    const done = first(run, "done") as Promise<{ path: string }>;
    // A worker that cannot start would leave the run waiting for ever.
    const failed = Promise.race(running.map(async (process) => {
      await process.status;
      throw new Error(`${process.name} ended early. It said:\n${process.said()}`);
    }));
    try {
      return (await Promise.race([done, failed])).path;
    } finally {
      failed.catch(() => {});
      await run.end();
    }
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

async function measure(
  path: string,
  corpora: readonly Corpus[],
  device: Awaited<ReturnType<typeof openDevice>>,
) {
  const tokenizer = await loadTokenizer(files, path);
  const model = await LoadedModel.load(device, await openCheckpoint(files, path));
  const bytes = (text: string) => new TextEncoder().encode(text);
  const validation = corpora.map((corpus) => corpus.validation).join("");
  const { bitsPerByte } = await textLoss(model, tokenizer, validation, SEQUENCE);
  const others = await baselines(bytes(corpora.map((corpus) => corpus.train).join("")), bytes(validation));
  say(`Validation text (${bytes(validation).length} bytes, no headword of it in training), bits per byte:`);
  const rows = [{ name: "this model", bitsPerByte }, ...others]
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
    await demo();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    Deno.exit(1);
  }
}
