/**
 * The costs of all kernels, without the kernels: what a planner adds up where no device is.
 *
 * @module
 */
export * from "./matmul/cost.ts";
