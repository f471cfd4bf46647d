/** One Ctrl-C that comes twice, as under `deno task`, is one. */
import { assertEquals } from "@std/assert";
import { onInterrupt } from "../../cli/interrupt.ts";

Deno.test({
  name: "a signal that comes twice at once is one; a later one ends at once",
  ignore: Deno.build.os === "windows", // a process there cannot send itself one
  async fn() {
    let now = 0, heard = Promise.withResolvers<void>();
    const said: string[] = [];
    const stop = onInterrupt(() => said.push("first"), () => said.push("again"), () => now);
    const beside = () => heard.resolve();
    Deno.addSignalListener("SIGTERM", beside);
    const awake = setInterval(() => {}, 1_000); // listeners alone do not keep the event loop
    const signal = async () => {
      heard = Promise.withResolvers();
      Deno.kill(Deno.pid, "SIGTERM");
      await heard.promise;
    };
    try {
      await signal();
      now = 1;
      await signal();
      assertEquals(said, ["first"]);
      now = 2_000;
      await signal();
      assertEquals(said, ["first", "again"]);
    } finally {
      stop();
      clearInterval(awake);
      Deno.removeSignalListener("SIGTERM", beside);
    }
  },
});
