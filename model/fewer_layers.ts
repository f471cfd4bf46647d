/**
 * A model with layers missing, as a source of its own: what is left of it closes up and is computed as any other model.
 * So a model is measured that lost some of its stages, or that is made quicker by leaving layers out.
 *
 * @module
 */
import { ModelError } from "./errors.ts";
import type { TensorSource } from "./source.ts";
import { parameterTable } from "./tensors.ts";

/**
 * Which of `layers` stay where `count` of them do: the first always, the others spread evenly, floor(i * layers / count).
 *
 * @throws {ModelError} Where that many cannot stay.
 */
export function keptLayers(layers: number, count: number): number[] {
  if (!Number.isInteger(count) || count < 1 || count > layers) {
    throw new ModelError(
      `Cannot keep ${count} of the model's ${layers} layers: choose a whole number from 1 to ${layers}.`,
    );
  }
  return Array.from({ length: count }, (_, i) => Math.floor(i * layers / count));
}

/**
 * The model without all but the layers `kept` (from 0, ascending). Its layers are numbered anew; embedding, final norm and
 * head stay.
 *
 * @throws {ModelError} For layers that the model does not have, in another order, twice, or for none.
 */
export function onlyLayers(source: TensorSource, kept: readonly number[]): TensorSource {
  const { layers } = source.config;
  const wrong = kept.find((layer, i) =>
    !Number.isInteger(layer) || layer < 0 || layer >= layers || (i > 0 && layer <= kept[i - 1])
  );
  if (wrong !== undefined) {
    throw new ModelError(
      `Cannot keep layer ${wrong} of [${kept.join(", ")}]: give layers of the model (0 to ` +
        `${layers - 1}), each once and in ascending order.`,
    );
  }
  if (kept.length === 0) throw new ModelError("Cannot leave every layer out: keep at least one.");
  const config = { ...source.config, layers: kept.length };
  const full = parameterTable(source.config), names = new Map<string, string>();
  const places = new Map(kept.map((layer, place) => [layer, place]));
  // Both tables list tensors in the same order, so the ones that stay answer for those of the smaller model one by one.
  const stay = full.filter(({ layer }) => layer < 0 || layer === layers || places.has(layer));
  for (const [i, { name }] of parameterTable(config).entries()) names.set(name, stay[i].name);
  return {
    config,
    read(name, start, length) {
      const own = names.get(name);
      if (own === undefined) throw new Error(`A model of this configuration has no tensor ${name}`);
      return source.read(own, start, length);
    },
  };
}
