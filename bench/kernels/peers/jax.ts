/**
 * The peers' problem by jax-js on WebGPU. Its arrays count references: `.ref` keeps one for another use.
 *
 * @module
 */
import { type Array as JaxArray, defaultDevice, init, jit, nn, numpy as np, valueAndGrad } from "@jax-js/jax";
import { ADAMW, MLP, mlpProblem, noise, type Peer, SIDE, turned } from "./problem.ts";

/** Opens its WebGPU backend. Throws what it throws where it has none. */
export async function jaxJs(): Promise<Peer> {
  await init("webgpu");
  defaultDevice("webgpu");
  const matrix = (words: Float32Array<ArrayBuffer>, rows: number, columns: number) =>
    np.array(words).reshape([rows, columns]);
  const a = matrix(noise(SIDE * SIDE, 1, 1), SIDE, SIDE), b = matrix(noise(SIDE * SIDE, 1, 2), SIDE, SIDE);
  const products = {
    nn: jit((a: JaxArray, b: JaxArray) => np.dot(a, b)),
    nt: jit((a: JaxArray, b: JaxArray) => np.dot(a, np.transpose(b))),
    tn: jit((a: JaxArray, b: JaxArray) => np.dot(np.transpose(a), b)),
  };
  const { rows, inputs, hidden, outputs } = MLP;
  const problem = mlpProblem();
  const x = matrix(problem.x, rows, inputs), target = matrix(problem.target, rows, outputs);
  const loss = (w1: JaxArray, w2: JaxArray, x: JaxArray, target: JaxArray) => {
    const difference = np.dot(nn.relu(np.dot(x, w1)), w2).sub(target);
    return np.mean(difference.ref.mul(difference));
  };
  const { learningRate, beta1, beta2, epsilon, decay } = ADAMW;
  /** `corrections` [2]: 1 - beta1^t and 1 - beta2^t. */
  const update = (w: JaxArray, g: JaxArray, m: JaxArray, v: JaxArray, first: JaxArray, second: JaxArray) => {
    const m1 = m.mul(beta1).add(g.ref.mul(1 - beta1));
    const v1 = v.mul(beta2).add(g.ref.mul(g).mul(1 - beta2));
    const root = np.sqrt(v1.ref.div(second)).add(epsilon);
    const change = m1.ref.div(first).div(root).add(w.ref.mul(decay));
    return [w.sub(change.mul(learningRate)), m1, v1];
  };
  const step = jit((
    state: JaxArray[],
    x: JaxArray,
    target: JaxArray,
    first: JaxArray,
    second: JaxArray,
  ): [JaxArray, JaxArray[]] => {
    const [w1, m1, v1, w2, m2, v2] = state;
    const [value, [g1, g2]] = valueAndGrad(loss, { argnums: [0, 1] })(w1.ref, w2.ref, x, target);
    return [value, [
      ...update(w1, g1, m1, v1, first.ref, second.ref),
      ...update(w2, g2, m2, v2, first, second),
    ]];
  });
  let state = [
    matrix(turned(problem.w1, hidden, inputs), inputs, hidden),
    np.zeros([inputs, hidden]),
    np.zeros([inputs, hidden]),
    matrix(turned(problem.w2, outputs, hidden), hidden, outputs),
    np.zeros([hidden, outputs]),
    np.zeros([hidden, outputs]),
  ];
  let done = 0;
  return {
    name: "jax-js 0.1.25",
    async product(layout, calls) {
      const start = performance.now();
      // Each takes the result before it as its first factor: what nothing that is waited for depends on is never computed.
      let result = products[layout](a.ref, b.ref);
      const first = result.ref;
      for (let i = 1; i < calls; i++) result = products[layout](result, b.ref);
      await result.blockUntilReady();
      const milliseconds = performance.now() - start;
      result.dispose();
      const words = await first.data();
      return { milliseconds, element: words[SIDE + 2] };
    },
    async steps(count) {
      const start = performance.now();
      let value: JaxArray | undefined;
      for (let i = 0; i < count; i++) {
        value?.dispose();
        done++;
        const first = np.array(1 - beta1 ** done), second = np.array(1 - beta2 ** done);
        [value, state] = step(state, x.ref, target.ref, first, second);
      }
      const [loss] = await value!.data();
      return { milliseconds: performance.now() - start, loss };
    },
    close() {},
  };
}
