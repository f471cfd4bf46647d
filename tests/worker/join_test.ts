/** `volary join` with what people get wrong: one paragraph, the right exit code, no stack trace. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { formatInvite, newInvite } from "../../mesh/identity/invite.ts";
import { clock } from "./small_mesh.ts";

const program = fromFileUrl(new URL("../../cli.ts", import.meta.url));

async function join(...args: string[]): Promise<{ code: number; text: string }> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program, "join", ...args],
    env: { NO_COLOR: "1" },
    stdout: "null",
  }).output();
  return { code, text: new TextDecoder().decode(stderr).trim() };
}

/** An address of this machine where nobody listens. */
function nobody(): string {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return `ws://127.0.0.1:${port}/mesh`;
}

Deno.test("join says what is wrong with its arguments in one paragraph", async () => {
  const good = formatInvite(
    newInvite(clock, { address: nobody(), coordinator: new Uint8Array(32), expires: undefined }),
  );
  const folder = await Deno.makeTempDir(), key = `${folder}/worker.key`;
  const cases: [string[], number, RegExp][] = [
    [[], 2, /^INVITE is missing\. See: deno task volary join --help$/],
    [["volary:nonsense"], 1, /^This invite /],
    [[good.slice(0, -3)], 1, /^This invite has a typo or a part of it is missing/],
    [[good, "--device", "abacus"], 2, /^--device takes auto, webgpu, reference, not "abacus"\./],
    [[good, "--memory", "plenty"], 2, /^--memory takes a size such as 4GiB or 800MiB, not "plenty"\./],
    [[good, "--memory", "1MiB"], 1, /^--memory 1MiB is too little: a worker needs at least 256MiB\.$/],
    [
      [good, "--key", key],
      1,
      /^Cannot reach the coordinator at 127\.0\.0\.1:\d+: .*Is `volary up` running there/,
    ],
  ];
  const answers = await Promise.all(cases.map(([args]) => join(...args)));
  answers.forEach(({ code, text }, i) => {
    const [args, wanted, message] = cases[i];
    assertEquals(code, wanted, `${args}: ${text}`);
    assertMatch(text, message);
    assert(!/\n\s+at /.test(text), `no stack trace: ${text}`);
    assert(!text.includes("\n"), `one paragraph: ${text}`);
  });
  await Deno.remove(folder, { recursive: true });
});
