/**
 * The costs of all kernels, without the kernels: what a planner adds up where no device is.
 *
 * @module
 */
export * from "./matmul/cost.ts";
export * from "./dispatch/cost.ts";
export * from "./optimizer/cost.ts";
export * from "./router/cost.ts";
