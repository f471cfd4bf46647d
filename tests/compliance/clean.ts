/** Options of a test that must leave no timer, socket or other resource behind (Deno's checks are off by default). */
export const clean = { sanitizeOps: true, sanitizeResources: true, sanitizeExit: true };

/** For tests over werift, whose handshakes leave timers that run out a second later; one test waits for those. */
export const lenient = { ...clean, sanitizeOps: false, sanitizeResources: false };
