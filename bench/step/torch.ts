/**
 * The PyTorch peer of `bench step`: a script that prints "N tok/s", at VOLARY_TORCH_PEER or
 * ../shared/reference/torch_moe.py beside the project.
 *
 * @module
 */

/** The peer's tokens a second, or why there are none. */
export type TorchResult = { readonly tokens: number } | { readonly absent: string };

/** Runs the peer once, on one thread. */
export async function torch(): Promise<TorchResult> {
  const script = Deno.env.get("VOLARY_TORCH_PEER") ??
    new URL("../../../shared/reference/torch_moe.py", import.meta.url).pathname;
  try {
    await Deno.stat(script);
  } catch {
    return { absent: `no script at ${script}; VOLARY_TORCH_PEER may name one that prints "N tok/s"` };
  }
  const command = new Deno.Command("/usr/bin/env", {
    // These two halve Debian's OpenBLAS where they are set.
    args: ["-u", "OPENBLAS_CORETYPE", "-u", "OPENBLAS_L2_SIZE", "/usr/bin/python3", script, "--steps", "7"],
    env: { OMP_NUM_THREADS: "1" },
  });
  try {
    const { success, stdout, stderr } = await command.output();
    const found = /(\d+) tok\/s/.exec(new TextDecoder().decode(stdout));
    if (success && found) return { tokens: Number(found[1]) };
    const said = new TextDecoder().decode(stderr).trim().split("\n").at(-1) || "it printed no tok/s";
    return { absent: `${script} failed: ${said}; on Debian: apt-get install python3-torch` };
  } catch (error) {
    return { absent: (error as Error).message };
  }
}
