/**
 * Volary's public surface: open a device, load a model, measure it, let it write, grow it; join a mesh or run one.
 *
 * ```ts
 * import { freshModel, LoadedModel, openDevice, parseConfig } from "./mod.ts";
 *
 * const config = parseConfig({
 *   vocab_size: 64,
 *   hidden_size: 32,
 *   intermediate_size: 48,
 *   num_hidden_layers: 2,
 *   num_attention_heads: 4,
 *   num_key_value_heads: 2,
 *   head_dim: 8,
 * });
 * const device = await openDevice({ kind: "reference" });
 * const model = await LoadedModel.load(device, freshModel(config, 1));
 * const ids = Uint32Array.of(1, 2, 3, 4), labels = Uint32Array.of(2, 3, 4, 5);
 * const { ce } = await model.loss({ ids, batch: 1, sequence: 4 }, labels);
 * // A fresh model knows nothing: its loss is near that of a uniform guess, ln 64.
 * if (Math.abs(ce - Math.log(64)) > 0.2) throw new Error(`the loss is ${ce}`);
 * model.release();
 * device.close();
 * ```
 *
 * @module
 */
export type { Device } from "./kernels/device.ts";
export type { DeviceInfo } from "./kernels/device_info.ts";
export {
  DeviceError,
  DeviceLostError,
  NoAdapterError,
  OutOfMemoryError,
  ShaderError,
} from "./kernels/errors.ts";
export { openDevice } from "./kernels/open.ts";

export { type Checkpoint, openCheckpoint } from "./model/checkpoint/checkpoint.ts";
export { configToJson, type ModelConfig, parseConfig } from "./model/config.ts";
export { ModelError } from "./model/errors.ts";
export { generate } from "./model/text/generate.ts";
export { growModel } from "./model/growth/growth.ts";
export { freshModel } from "./model/init.ts";
export { LoadedModel } from "./model/layers/local_model.ts";
export type { TensorSource } from "./model/source.ts";
export { parameterTable, type TensorSpec } from "./model/tensors.ts";
export { loadTokenizer } from "./model/text/load_tokenizer.ts";
export type { Tokenizer } from "./model/text/tokenizer.ts";
export { upcycleModel } from "./model/growth/upcycle.ts";

export { Admission } from "./coordinator/admission/admission.ts";
export { Coordinator } from "./coordinator/coordinator.ts";
export { parseRecipe, type Recipe } from "./coordinator/recipe/recipe.ts";
export { denoRuntime } from "./mesh/deno_runtime.ts";
export type { Operation, Plan, Stage } from "./mesh/plan.ts";
export type { Channel, Clock, Runtime, Storage, Transport } from "./mesh/runtime.ts";
export { joinMesh } from "./worker/deno.ts";
