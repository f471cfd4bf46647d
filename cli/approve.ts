/**
 * `volary approve`: lets a worker in that waits, or was revoked.
 *
 * @module
 */
import { changeWorker } from "./change_worker.ts";

export const verb = changeWorker("approve", {
  summary: "let a worker in that waits, or was revoked",
  help:
    `Lets a worker in that waits because the coordinator was started with --approve, or that was revoked. Compare the
fingerprint with the one that \`volary join\` shows there.`,
  told: (worker, fingerprint) => `${worker} may join (${fingerprint}).`,
});
