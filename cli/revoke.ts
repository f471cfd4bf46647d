/**
 * `volary revoke`: shuts a worker out and ends its connection.
 *
 * @module
 */
import { changeWorker } from "./change_worker.ts";

export const verb = changeWorker("revoke", {
  summary: "shut a worker out and end its connection",
  help: `Shuts a worker out: its connection ends (a run that needs it stops with its last checkpoint), its key
is refused from now on, and the invite that it came with admits nobody new, as its owner still has
it. Workers that were admitted before stay so.`,
  told: (worker, fingerprint) =>
    `${worker} is shut out (${fingerprint}). Its invite admits nobody new; for others: volary invite`,
});
