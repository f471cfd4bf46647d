/**
 * The peers' problem by TensorFlow.js on WebGPU.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-webgpu";
import { ADAMW, MLP, mlpProblem, noise, type Peer, SIDE, turned } from "./problem.ts";

/** Opens its WebGPU backend. Throws what it throws where it has none. */
export async function tfjs(): Promise<Peer> {
  if (!await tf.setBackend("webgpu")) throw new Error("tfjs refuses its WebGPU backend here");
  await tf.ready();
  const a = tf.tensor2d(noise(SIDE * SIDE, 1, 1), [SIDE, SIDE]);
  const b = tf.tensor2d(noise(SIDE * SIDE, 1, 2), [SIDE, SIDE]);
  const { rows, inputs, hidden, outputs } = MLP;
  const problem = mlpProblem();
  const x = tf.tensor2d(problem.x, [rows, inputs]), target = tf.tensor2d(problem.target, [rows, outputs]);
  const w1 = tf.variable(tf.tensor2d(turned(problem.w1, hidden, inputs), [inputs, hidden]));
  const w2 = tf.variable(tf.tensor2d(turned(problem.w2, outputs, hidden), [hidden, outputs]));
  const { learningRate, beta1, beta2, epsilon, decay } = ADAMW;
  const adam = tf.train.adam(learningRate, beta1, beta2, epsilon);
  // By hand: its gradients come with a package of its own, and would do the same.
  const step = () =>
    tf.tidy(() => {
      const before = tf.matMul(x, w1), after = tf.relu(before);
      const difference = tf.sub(tf.matMul(after, w2), target);
      const dy = tf.mul(difference, 2 / (rows * outputs)) as tf.Tensor2D;
      const dbefore = tf.mul(tf.matMul(dy, w2, false, true), tf.step(before)) as tf.Tensor2D;
      const gradients = [tf.matMul(x, dbefore, true), tf.matMul(after, dy, true)];
      // Decoupled decay, which its Adam does not have.
      for (const w of [w1, w2]) w.assign(tf.mul(w, 1 - learningRate * decay));
      adam.applyGradients([w1, w2].map(({ name }, i) => ({ name, tensor: gradients[i] })));
      return tf.mean(tf.square(difference));
    });
  return {
    name: `tfjs ${tf.version_core}`,
    async product(layout, calls) {
      const start = performance.now();
      let result: tf.Tensor | undefined;
      for (let i = 0; i < calls; i++) {
        result?.dispose();
        result = tf.matMul(a, b, layout === "tn", layout === "nt");
      }
      const word = tf.slice(result!, [1, 2], [1, 1]);
      const [element] = await word.data();
      const milliseconds = performance.now() - start;
      tf.dispose([result!, word]);
      return { milliseconds, element };
    },
    async steps(count) {
      const start = performance.now();
      let value: tf.Tensor | undefined;
      for (let i = 0; i < count; i++) {
        value?.dispose();
        value = step();
      }
      const [loss] = await value!.data();
      value!.dispose();
      return { milliseconds: performance.now() - start, loss };
    },
    close: () => tf.removeBackend("webgpu"),
  };
}
