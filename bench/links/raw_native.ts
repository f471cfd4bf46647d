/**
 * One end of a raw node-datachannel data channel in a process of its own, for benches. Argument: "send" or "receive", and
 * the number of bytes. What both ends tell each other first goes over stdin and stdout, a JSON line each; the receiver
 * prints {"bytesPerSecond": ...} at the end.
 *
 * @module
 */
import { PeerConnection } from "node-datachannel";
import { objects } from "../../cli/lines.ts";

/** Size of a message and how many bytes are queued at most: full speed on this transport. */
const MESSAGE = 64 << 10, HIGH_WATER = 256 << 10;

const [role, total] = [Deno.args[0], Number(Deno.args[1])], sends = role === "send";
const connection = new PeerConnection("raw", {
  iceServers: [],
  bindAddress: "127.0.0.1",
  disableAutoNegotiation: true,
});
const say = (value: unknown) => console.log(JSON.stringify(value));
connection.onGatheringStateChange((state) => state === "complete" && say(connection.localDescription()));
const make = () => connection.createDataChannel("raw", { negotiated: true, id: 0, unordered: false });
let channel = sends ? make() : undefined;
if (sends) {
  begin();
  connection.setLocalDescription("offer");
}

for await (const said of objects<{ sdp: string; type: "offer" | "answer" }>(Deno.stdin.readable)) {
  const { sdp, type } = said;
  // The offering end sends first packets: see mesh/transports/native_transport.ts.
  const heard = sends ? sdp : sdp.replace(/^a=(candidate|end-of-candidates).*\r?\n/gm, "");
  connection.setRemoteDescription(heard, type);
  if (!sends) {
    channel = make();
    begin();
    connection.setLocalDescription("answer");
  }
  break;
}

function begin(): void {
  const open = channel!;
  if (sends) return open.onOpen(send);
  let received = 0, began = 0;
  open.onMessage((data) => {
    if (received === 0) began = performance.now();
    received += (data as Uint8Array).length;
    if (received < total) return;
    say({ bytesPerSecond: received / (performance.now() - began) * 1000 });
    Deno.exit(0);
  });
}

async function send(): Promise<void> {
  const open = channel!;
  let low: (() => void) | undefined;
  const message = new Uint8Array(MESSAGE); // the library copies it
  open.setBufferedAmountLowThreshold(HIGH_WATER / 4);
  open.onBufferedAmountLow(() => low?.());
  for (let sent = 0; sent < total; sent += MESSAGE) {
    open.sendMessageBinary(message);
    if (open.bufferedAmount() > HIGH_WATER) {
      const drained = new Promise<void>((resolve) => low = resolve);
      if (open.bufferedAmount() > HIGH_WATER / 4) await drained;
    }
  }
}
