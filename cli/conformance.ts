/**
 * `deno task conformance DIR...`: cases with known answers, on every device that is here.
 *
 * @module
 */
import { type Device, NoAdapterError, referenceDevice, webgpuDevice } from "../kernels/mod.ts";
import { denoRuntime } from "../mesh/deno_runtime.ts";
import { checkGrownCase } from "../model/conformance/conformance_growth.ts";
import {
  type CaseKind,
  caseKind,
  readGrownCase,
  readTrainingCase,
} from "../model/conformance/conformance_files.ts";
import {
  checkTrainingCase,
  conformanceLimits,
  passes,
  type Verdict,
} from "../model/conformance/conformance.ts";
import type { FileStore } from "../model/files.ts";
import { joinPath, withoutSlash } from "../model/files.ts";
import { quietDriver } from "./driver.ts";
import { exitCode, explain } from "./errors.ts";
import { CommandError, printJson, readFlags, say, UsageError, type Verb } from "./verb.ts";

const HELP = `deno task conformance DIR... [--device webgpu|reference] [--json]

Checks cases with known answers. Each DIR is a case or a folder of cases. A training case (train.json) runs on every
device: logits, every gradient, the parameters after its steps and all losses must come within
${Object.entries(conformanceLimits).map(([kind, limit]) => `${kind} ${limit.toExponential(0)}`).join(", ")}
of the answer, relative, tensor by tensor. A growth or upcycling case (growth.json, upcycle.json) has its model made:
every tensor must come within the last of these, and both models' losses on every device as above.

  --device NAME   only this device (default: WebGPU where there is an adapter, and plain arrays)
  --json          one JSON object a line on stdout

Exit code 0: all within the limits; 1: some are not, or there are no cases.`;

/** The folders of cases that `path` means, in order of their names. */
async function casesIn(files: FileStore, path: string): Promise<string[]> {
  if (await caseKind(files, path) !== undefined) return [path];
  let names: string[];
  try {
    names = await files.list(path);
  } catch {
    throw new CommandError(`Cannot check the cases in ${path}: there is no such folder.`);
  }
  const folders = names.sort().map((name) => joinPath(withoutSlash(path), name));
  // What stands beside the cases may be a file, which has no files in it.
  const kinds = await Promise.all(folders.map((folder) => caseKind(files, folder).catch(() => undefined)));
  const cases = folders.filter((_, i) => kinds[i] !== undefined);
  if (cases.length === 0) {
    throw new CommandError(
      `There are no cases in ${path}: a case is a folder with a train.json (or growth.json or upcycle.json) in it.`,
    );
  }
  return cases;
}

/** Reads a case; what comes back checks it on a device. */
async function prepare(
  files: FileStore,
  folder: string,
  kind: CaseKind,
): Promise<(device: Device) => Promise<Verdict>> {
  if (kind === "training") {
    const given = await readTrainingCase(files, folder);
    return (device) => checkTrainingCase(device, given);
  }
  const given = await readGrownCase(files, folder, kind);
  return (device) => checkGrownCase(device, given);
}

/** Opens what there is, or the one asked for. */
async function openDevices(name: string | undefined): Promise<Device[]> {
  const devices: Device[] = [];
  if (name !== "reference") {
    try {
      devices.push(await webgpuDevice());
    } catch (error) {
      if (!(error instanceof NoAdapterError) || name === "webgpu") throw error;
      say("There is no WebGPU adapter: only plain arrays are checked.");
    }
  }
  if (name !== "webgpu") devices.push(referenceDevice());
  return devices;
}

function line(kind: string, folder: string, device: Device, verdict: Verdict): string {
  const worst = [...verdict].map(([what, { error }]) => `${what} ${error.toExponential(1)}`);
  return `${kind.padEnd(4)}  ${folder}  ${device.info.kind}  ${worst.join("  ")}`;
}

/** What is beyond its limit, and by which tensor. */
function complaints(verdict: Verdict): string[] {
  return [...verdict].flatMap(([kind, { error, name }]) => {
    if (error <= conformanceLimits[kind]) return [];
    return [`      ${kind}: ${name} is off by ${error.toExponential(2)}, allowed ${conformanceLimits[kind]}`];
  });
}

async function run(args: readonly string[]): Promise<number> {
  if (args.includes("--help")) {
    say(HELP);
    return 0;
  }
  // Folders in any number, so they are taken out before the flags are checked.
  const folders = args.filter((arg, i) => !arg.startsWith("--") && args[i - 1] !== "--device");
  const flags = readFlags(args.filter((arg) => !folders.includes(arg)), {
    boolean: ["json"],
    string: ["device"],
  });
  const device = flags.text("device");
  if (device !== undefined && device !== "webgpu" && device !== "reference") {
    throw new UsageError(`--device takes webgpu or reference, not "${device}".`);
  }
  if (folders.length === 0) throw new UsageError("DIR is missing: name at least one folder of cases.");
  const files = denoRuntime().storage;
  const cases = (await Promise.all(folders.map((folder) => casesIn(files, folder)))).flat();
  const devices = await openDevices(device);
  let checked = 0, failed = 0;
  try {
    for (const folder of cases) {
      const kind = await caseKind(files, folder);
      const check = await prepare(files, folder, kind!);
      for (const device of devices) {
        const verdict = await check(device);
        const ok = passes(verdict);
        checked++;
        if (!ok) failed++;
        if (flags.has("json")) {
          printJson({ case: folder, device: device.info.kind, ok, worst: Object.fromEntries(verdict) });
        } else [line(ok ? "ok" : "FAIL", folder, device, verdict), ...complaints(verdict)].forEach(say);
      }
    }
  } finally {
    for (const device of devices) device.close();
  }
  say(failed === 0 ? `All ${checked} within the limits.` : `${failed} of ${checked} beyond the limits.`);
  return failed === 0 ? 0 : 1;
}

/** `volary conformance`. */
export const verb: Verb = {
  name: "conformance",
  summary: "check cases with known answers on every device",
  help: HELP,
  examples: ["conformance tests/golden"],
  run,
};

if (import.meta.main) {
  quietDriver();
  try {
    Deno.exit(await run(Deno.args));
  } catch (error) {
    const paragraph = explain(error);
    if (paragraph === undefined) throw error;
    say(error instanceof UsageError ? `${paragraph}\n\n${HELP}` : paragraph);
    Deno.exit(exitCode(error));
  }
}
