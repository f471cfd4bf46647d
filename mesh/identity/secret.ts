/**
 * Comparing secrets.
 *
 * @module
 */
import type { Chance } from "../runtime.ts";

/** Compares secrets in a time that tells nothing of where they differ: by their HMACs under a key of the moment. */
export async function sameSecret(chance: Chance, given: string, wanted: string): Promise<boolean> {
  const hash = { name: "HMAC", hash: "SHA-256" }, text = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", chance.random(32), hash, false, ["sign", "verify"]);
  const mark = await crypto.subtle.sign("HMAC", key, text.encode(wanted));
  return await crypto.subtle.verify("HMAC", key, mark, text.encode(given));
}
