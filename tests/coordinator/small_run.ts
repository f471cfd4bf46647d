/** A recipe that trains in a second, and its text. */
import { openDevice } from "../../kernels/mod.ts";
import { MeshInMemory, type MeshOptions } from "../mesh_in_memory.ts";

/** What a test may change of the recipe. */
export interface SmallRecipe {
  readonly tied?: boolean;
  readonly experts?: number;
  /** Width of the shared expert. */
  readonly shared?: number;
  readonly ladder?: boolean;
  readonly stages?: number;
  readonly hosts?: number;
  /** Default 3. */
  readonly layers?: number;
  readonly steps?: number;
  readonly checkpointEvery?: number;
  readonly recompute?: boolean;
  readonly precision?: "f32" | "bf16";
  readonly learningRate?: number;
  /** Further lines of [mesh]; `stages` and `hosts` are then absent unless given. */
  readonly mesh?: string;
  readonly microbatches?: number;
  /** [phase.local], as lines. */
  readonly local?: string;
}

export function smallRecipe(recipe: SmallRecipe = {}): string {
  const { tied = false, experts = 4, shared = 0, stages = 1, hosts = 0, steps = 20, checkpointEvery = 10 } =
    recipe;
  const { recompute = false, learningRate = 1e-2 } = recipe;
  return `
name = "small"
[model]
hidden_size = 16
intermediate_size = 12
num_hidden_layers = ${recipe.layers ?? 3}
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 4
attention_bias = true
tie_word_embeddings = ${tied}
shared_expert_intermediate_size = ${shared}
ladder_residual = ${recipe.ladder ?? false}
${
    experts > 0
      ? `num_local_experts = ${experts}\nnum_experts_per_tok = 2\nrouter_aux_loss_coef = 0.01\nrouter_z_loss_coef = 0.001`
      : ""
  }
[data]
train = ["a.txt"]
validation = 0.2
[mesh]
${recipe.mesh ?? `stages = ${stages}\nexpert_hosts = ${hosts}`}
[[phase]]
kind = "train"
steps = ${steps}
batch = 6
microbatches = ${recipe.microbatches ?? 3}
sequence = 12
learning_rate = ${learningRate}
warmup = 2
schedule = "constant"
evaluate_every = 10
evaluate_batches = 2
checkpoint_every = ${checkpointEvery}
recompute = ${recompute}
precision = "${recipe.precision ?? "f32"}"
${recipe.local === undefined ? "" : `[phase.local]\n${recipe.local}`}
`;
}

/** Some hundred lines that something can be learnt from. */
export const smallText = Array.from(
  { length: 300 },
  (_, i) => `line ${i}: the ${["cat", "dog", "owl", "bee"][i * 7 % 4]} is ${i * i % 97} and ${i % 13}.\n`,
).join("");

/** A mesh with the text at its place. */
export async function smallMesh(
  kind: "webgpu" | "reference",
  workers: number,
  more: Partial<MeshOptions> = {},
): Promise<MeshInMemory> {
  const mesh = await MeshInMemory.start({ workers, device: () => openDevice({ kind }), ...more });
  mesh.storage.text("/a.txt", smallText);
  return mesh;
}

/** A checkpoint's weights and moments, as bytes. */
export function stored(mesh: MeshInMemory, step: number): Record<string, Uint8Array> {
  const folder = `/runs/small/checkpoints/step-${String(step).padStart(6, "0")}`;
  return {
    weights: mesh.storage.files.get(`${folder}/model.safetensors`)!,
    moments: mesh.storage.files.get(`${folder}.state/moments.safetensors`)!,
  };
}
