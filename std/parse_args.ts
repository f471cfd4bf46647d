/**
 * The part of the standard library that is used here; the map in deno.json may point at JSR instead.
 *
 * @module
 */
// @ts-types="./parse_args.d.ts"
export * from "npm:deno-std@1.4.0/cli/parse_args.js";
