/**
 * What the Vulkan driver wants from this process's environment.
 *
 * @module
 */

/**
 * Mesa looks for a place for windows and complains on stderr where the environment names none (a service, a container).
 * We show no window, so any existing folder will do. Call before the first device is opened.
 */
export function quietDriver(): void {
  if (Deno.build.os === "linux" && !Deno.env.has("XDG_RUNTIME_DIR")) Deno.env.set("XDG_RUNTIME_DIR", "/tmp");
}
