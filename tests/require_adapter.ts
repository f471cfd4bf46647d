/**
 * Makes sure that the kernels can be tested: a WebGPU adapter is there, or a software one is installed where this
 * process may do that (Debian, root), or the tests fail here and say which line installs it.
 *
 * @module
 */
const INSTALL = "apt-get update && apt-get install -y mesa-vulkan-drivers";

async function adapter(): Promise<string | undefined> {
  const found = await navigator.gpu?.requestAdapter();
  return found ? (found.info.description || found.info.vendor || "a WebGPU adapter") : undefined;
}

/** Runs a program to its end; false where it failed or does not exist. */
async function ran(program: string, ...args: string[]): Promise<boolean> {
  try {
    const command = new Deno.Command(program, { args, env: { DEBIAN_FRONTEND: "noninteractive" } });
    return (await command.output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const name = await adapter();
if (name !== undefined) {
  console.error(`WebGPU adapter: ${name}`);
} else if (Deno.args.includes("--installed")) {
  console.error(
    `mesa-vulkan-drivers is installed, but WebGPU still finds no adapter; is the Vulkan loader (libvulkan1) there?`,
  );
  Deno.exit(1);
} else if (Deno.uid() === 0 && await ran("apt-get", "--version")) {
  console.error(`No WebGPU adapter: installing Debian's software one (${INSTALL}) ...`);
  const installed = await ran("apt-get", "update", "-q") &&
    await ran(
      "apt-get",
      "install",
      "-y",
      "-q",
      "--no-install-recommends",
      "mesa-vulkan-drivers",
      "libvulkan1",
    );
  if (!installed) {
    console.error(`That failed. Install a Vulkan driver by hand, then run the tests again:\n    ${INSTALL}`);
    Deno.exit(1);
  }
  // A process sees only the drivers that were there when it first asked: look again in a new one.
  const again = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-sys=uid", "--allow-run=apt-get", import.meta.filename!, "--installed"],
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  Deno.exit(again.code);
} else {
  console.error(
    `No WebGPU adapter, so the kernels cannot be tested. Install a Vulkan driver, then run the tests again; on Debian or Ubuntu, as root:\n    ${INSTALL}`,
  );
  Deno.exit(1);
}
