/**
 * What can be wrong with a model as data, by stable names. Each message is one paragraph: what was done, what is wrong,
 * what to do.
 *
 * @module
 */

/** Something about a model, its files or its text that the user can act on; `name` is stable. */
export class ModelError extends Error {
  override readonly name: string = "ModelError";
}

/** A model configuration that is unknown, inconsistent, or that this program would compute wrongly. */
export class ConfigError extends ModelError {
  override readonly name = "ConfigError";
}

/** A safetensors file that is truncated, lies about itself, or holds a type that is not read. */
export class SafetensorsError extends ModelError {
  override readonly name = "SafetensorsError";
}

/** A checkpoint folder whose parts do not fit each other or the model. */
export class CheckpointError extends ModelError {
  override readonly name = "CheckpointError";
}

/** A tokenizer that cannot be read or does not fit the model. */
export class TokenizerError extends ModelError {
  override readonly name = "TokenizerError";
}

/** A text that cannot be trained on or evaluated. */
export class TextError extends ModelError {
  override readonly name = "TextError";
}

/** A growth or upcycling that this program refuses; the message says what would work. */
export class GrowthError extends ModelError {
  override readonly name = "GrowthError";
}
