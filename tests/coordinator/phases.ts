/** A recipe of several phases for a mesh in memory. */
import { openDevice } from "../../kernels/mod.ts";
import { MeshInMemory } from "../mesh_in_memory.ts";
import { MemoryStorage } from "../memory_storage.ts";
import { smallText } from "./small_run.ts";

/** A phase that trains a little, with further lines. */
export const train = (more = "") => `
[[phase]]
kind = "train"
steps = 6
batch = 4
microbatches = 2
sequence = 12
learning_rate = 1e-2
warmup = 2
evaluate_batches = 8
checkpoint_every = 3
${more}`;

/** Dense, then wider and deeper, then a mixture of experts. */
export const recipe = `
name = "phases"
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 2
head_dim = 4
attention_bias = true
seed = 1
[data]
train = ["a.txt"]
validation = 0.2
[mesh]
stages = 2
expert_hosts = 1
${train()}
[[phase]]
kind = "grow"
hidden_size = 16
intermediate_size = 24
num_attention_heads = 4
num_hidden_layers = 3
depth = "identity"
${train('schedule = "wsd"')}
[[phase]]
kind = "upcycle"
num_local_experts = 4
${train()}
[[phase]]
kind = "evaluate"
batch = 4
sequence = 12
`;

/** A mesh of three workers on plain arrays with a text at its place. */
export async function start(storage = new MemoryStorage()): Promise<MeshInMemory> {
  storage.text("/a.txt", smallText);
  return await MeshInMemory.start({ workers: 3, device: () => openDevice({ kind: "reference" }), storage });
}
