/**
 * One end of a link over werift in a process of its own, for benches. Arguments: "send" or "receive", the number of
 * frames, the bytes of each. What both ends tell each other first goes over stdin and stdout, a JSON line each; the
 * receiver prints {"bytesPerSecond": ...} at the end.
 *
 * @module
 */
import { denoRuntime } from "../mesh/deno_runtime.ts";
import type { FrameHeader } from "../mesh/frame.ts";
import { openLink } from "../mesh/link.ts";
import type { Signal } from "../mesh/runtime.ts";
import { weriftTransport } from "../mesh/werift_transport.ts";

const [role, frames, frameBytes] = [Deno.args[0], Number(Deno.args[1]), Number(Deno.args[2])];
const say = (value: unknown) => console.log(JSON.stringify(value));

let handler: Signal["onbody"];
const early: unknown[] = [];
const signal: Signal = {
  send: say,
  get onbody() {
    return handler;
  },
  set onbody(next) {
    handler = next;
    while (handler !== undefined && early.length > 0) handler(early.shift());
  },
};
listen();

const clock = denoRuntime(), sends = role === "send";
const channel = await weriftTransport({ clock, loopback: true }).open(signal, sends);
const [self, peer] = sends ? ["a", "b"] : ["b", "a"];
const link = await openLink(channel, {
  clock,
  self,
  peer,
  run: "bench",
  generation: 1,
  lanes: { pipeline: frameBytes, request: 0, reply: 0 },
});
if (sends) {
  const payload = new Uint8Array(frameBytes);
  for (let sequence = 0; sequence < frames; sequence++) {
    const header: FrameHeader = {
      what: "activation",
      evaluate: false,
      generation: 1,
      round: 0,
      index: 0,
      microbatch: 0,
      sequence,
    };
    await link.send("pipeline", header, [payload]);
  }
} else {
  let received = 0, began = 0;
  link.onframe = (_lane, _header, _payload, consumed) => {
    consumed();
    if (received++ === 0) began = performance.now();
    if (received < frames) return;
    say({ bytesPerSecond: (frames - 1) * frameBytes / (performance.now() - began) * 1_000 });
    link.close();
  };
}
await link.closed;
await channel.closed;
Deno.exit(0);

async function listen(): Promise<void> {
  let rest = "";
  for await (const piece of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    rest += piece;
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      const body = JSON.parse(rest.slice(0, end));
      rest = rest.slice(end + 1);
      if (handler !== undefined) handler(body);
      else early.push(body);
    }
  }
}
