/**
 * One end of a raw werift data channel in a process of its own, for benches. Argument: "send" or "receive", and the number
 * of bytes. What both ends tell each other first goes over stdin and stdout, a JSON line each; the receiver prints
 * {"bytesPerSecond": ...} at the end.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { RTCPeerConnection } from "werift";
import { objects } from "../../cli/lines.ts";

/** Size of a message and how many bytes are queued at most: full speed on this transport. */
const MESSAGE = 16 << 10, HIGH_WATER = 256 << 10;

const [role, total] = [Deno.args[0], Number(Deno.args[1])];
const connection = new RTCPeerConnection({ iceServers: [], iceAdditionalHostAddresses: ["127.0.0.1"] });
const channel = connection.createDataChannel("raw", { negotiated: true, id: 0, ordered: true });
for (const transport of connection.iceTransports) {
  (transport.connection as { stunServer: unknown }).stunServer = undefined;
}
const say = (value: unknown) => console.log(JSON.stringify(value));

let received = 0, began = 0;
channel.onMessage.subscribe((data) => {
  if (received === 0) began = performance.now();
  received += (data as Buffer).length;
  if (received < total) return;
  say({ bytesPerSecond: received / (performance.now() - began) * 1000 });
  Deno.exit(0);
});
channel.stateChanged.subscribe(async (state) => {
  if (state !== "open" || role !== "send") return;
  channel.bufferedAmountLowThreshold = HIGH_WATER / 4;
  for (let sent = 0; sent < total; sent += MESSAGE) {
    channel.send(Buffer.alloc(MESSAGE));
    if (channel.bufferedAmount > HIGH_WATER) {
      await new Promise<void>((resolve) => channel.bufferedAmountLow.once(() => resolve()));
    }
  }
});

if (role === "send") {
  await connection.setLocalDescription(await connection.createOffer());
  say(connection.localDescription);
}
for await (const said of objects<{ sdp: string; type: "offer" | "answer" }>(Deno.stdin.readable)) {
  await connection.setRemoteDescription(said);
  if (role === "receive") {
    await connection.setLocalDescription(await connection.createAnswer());
    say(connection.localDescription);
  }
  break;
}
