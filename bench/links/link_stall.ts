/**
 * A consumer that takes nothing for ten seconds: what its end holds, and how large both processes get.
 *
 * @module
 */
import { frameCost, LaneBounds } from "../../mesh/link/lanes.ts";
import type { Output } from "../harness/bench.ts";
import { TRANSPORTS } from "./link_frames.ts";
import { ends } from "./link_pair.ts";
import { bytesText, type Failures } from "./link_text.ts";

/** How long it stands still, ms; the frames that are sent meanwhile; those of a short run beside it. */
const STALL_MS = 10_000, FRAME = 1 << 20, FRAMES = 40, SHORT = 8;

/** Stalls a consumer over each transport. Wanted: no more is held than was granted, and no frame is lost. */
export async function stall({ record, print }: Output): Promise<Failures> {
  const failures: Failures = [], { window } = new LaneBounds(FRAME), most = window / frameCost(FRAME);
  print(`\na consumer that stands still for ${STALL_MS / 1_000} s, frames of ${bytesText(FRAME)}:`);
  for (const transport of TRANSPORTS) {
    const common = { transport, frameBytes: FRAME };
    const quiet = await ends({ ...common, frames: SHORT }, common);
    const stalled = await ends({ ...common, frames: FRAMES }, { ...common, stall: STALL_MS });
    const { mostHeld, frames, wrong } = stalled.received, held = mostHeld / frameCost(FRAME);
    const more = stalled.rss.map((rss, i) => rss - quiet.rss[i]);
    record({ transport, held: mostHeld, window, more });
    const [sender, receiver] = more.map((bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`);
    print(
      `  ${transport.padEnd(8)}held at most ${held.toFixed(1)} frames of ${
        most.toFixed(1)
      } granted; resident memory ` +
        `beyond a short run: receiver ${receiver}, sender ${sender}; ${frames} frames, ${wrong} wrong`,
    );
    if (held > most) {
      failures.push(`${transport}: ${held.toFixed(1)} frames held, ${most.toFixed(1)} granted`);
    }
    if (frames !== FRAMES || wrong > 0) failures.push(`${transport}: frames lost or doubled`);
  }
  return failures;
}
