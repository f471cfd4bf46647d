/**
 * The costs of all kernels, without the kernels: what a planner adds up where no device is.
 *
 * @module
 */
export * from "./attention/cost.ts";
export * from "./bf16/cost.ts";
export * from "./cross_entropy/cost.ts";
export * from "./dispatch/cost.ts";
export * from "./embedding/cost.ts";
export * from "./matmul/cost.ts";
export * from "./optimizer/cost.ts";
export * from "./rmsnorm/cost.ts";
export * from "./rope/cost.ts";
export * from "./router/cost.ts";
export * from "./swiglu/cost.ts";
export * from "./vector/cost.ts";
