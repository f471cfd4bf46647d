/**
 * The peers' problem by this project's kernels.
 *
 * @module
 */
import {
  adamw,
  adamwScalars,
  defineKernel,
  matmulNN,
  matmulNT,
  matmulTN,
  part,
  type WebGpuDevice,
} from "../../kernels/mod.ts";
import { held } from "./held.ts";
import { ADAMW, MLP, mlpProblem, noise, type Peer, SIDE } from "./peers/problem.ts";

const LANES = 64;

/** Where each lane of an elementwise program stands. */
function program(body: string): string {
  return `@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let i = linear_workgroup(id, count) * ${LANES}u + lane;
  if (i >= params.vectors) { return; }
  ${body}
}`;
}

const grid = ({ vectors }: { readonly vectors: number }) => Math.ceil(vectors / LANES);
const PARAMS = { vectors: "u32" } as const;

/** y = max(x, 0). */
const relu = defineKernel({
  name: "bench relu",
  bindings: { x: "vec4f read", y: "vec4f write" },
  params: PARAMS,
  wgsl: program("y[i] = max(x[i], vec4f());"),
  grid,
  cost: ({ vectors }) => ({ flops: 4 * vectors, bytes: 32 * vectors }),
  reference: ({ x, y }) => x.forEach((value, i) => y[i] = Math.max(value, 0)),
});

/** dx = dy where x is positive, else 0. */
const reluBackward = defineKernel({
  name: "bench relu backward",
  bindings: { x: "vec4f read", dx: "vec4f write" },
  params: PARAMS,
  wgsl: program("dx[i] = select(vec4f(), dx[i], x[i] > vec4f());"),
  grid,
  cost: ({ vectors }) => ({ flops: 4 * vectors, bytes: 48 * vectors }),
  reference: ({ x, dx }) => x.forEach((value, i) => dx[i] = value > 0 ? dx[i] : 0),
});

/** y becomes the gradient of mean((y - wanted)^2), and `squares` the squares. */
const meanSquare = defineKernel({
  name: "bench mean square",
  bindings: { y: "vec4f write", wanted: "vec4f read", squares: "vec4f write" },
  params: PARAMS,
  wgsl: program(`let difference = y[i] - wanted[i];
  squares[i] = difference * difference;
  y[i] = difference * (0.5 / f32(params.vectors));`),
  grid,
  cost: ({ vectors }) => ({ flops: 12 * vectors, bytes: 64 * vectors }),
  reference({ y, wanted, squares }, { vectors }) {
    for (let i = 0; i < y.length; i++) {
      const difference = y[i] - wanted[i];
      squares[i] = difference * difference;
      y[i] = difference * (0.5 / vectors);
    }
  },
});

/** This project on an open device, which it closes at the end. */
export function ours(device: WebGpuDevice): Peer {
  const own = (content: number | Float32Array<ArrayBuffer>, label: string) => held(device, content, label);
  const square = SIDE * SIDE;
  const a = own(noise(square, 1, 1), "a"), b = own(noise(square, 1, 2), "b"), c = own(square, "c");
  const { rows, inputs, hidden, outputs } = MLP;
  const problem = mlpProblem();
  const x = own(problem.x, "x"), wanted = own(problem.target, "wanted");
  const weights = [problem.w1, problem.w2].map((words, i) => ({
    w: own(words, `w${i}`),
    g: own(words.length, `g${i}`),
    m: own(words.length, `m${i}`),
    v: own(words.length, `v${i}`),
  }));
  const [first, second] = weights;
  const before = own(rows * hidden, "before"), after = own(rows * hidden, "after");
  const dhidden = own(rows * hidden, "dhidden"), y = own(rows * outputs, "y");
  const squares = own(rows * outputs, "squares");
  const scalars = Array.from({ length: 4 }, (_, i) => own(8, `scalars ${i}`));
  let step = 0;

  const run = () => {
    device.run(matmulNT, { a: x, b: first.w, c: before }, { m: rows, n: hidden, k: inputs, accumulate: 0 });
    const vectors = rows * hidden / 4;
    device.run(relu, { x: before, y: after }, { vectors });
    device.run(matmulNT, { a: after, b: second.w, c: y }, { m: rows, n: outputs, k: hidden, accumulate: 0 });
    device.run(meanSquare, { y, wanted, squares }, { vectors: rows * outputs / 4 });
    device.run(matmulTN, { a: y, b: after, c: second.g }, { m: outputs, n: hidden, k: rows, accumulate: 0 });
    device.run(matmulNN, { a: y, b: second.w, c: dhidden }, {
      m: rows,
      n: hidden,
      k: outputs,
      accumulate: 0,
    });
    device.run(reluBackward, { x: before, dx: dhidden }, { vectors });
    device.run(matmulTN, { a: dhidden, b: x, c: first.g }, { m: hidden, n: inputs, k: rows, accumulate: 0 });
    const { learningRate, beta1, beta2, epsilon, decay } = ADAMW;
    const now = scalars[step % scalars.length];
    device.write(now, adamwScalars({ learningRate, beta1, beta2, epsilon, step: ++step, clip: 1 }));
    for (const weight of weights) {
      device.run(adamw, { ...weight, scalars: now }, { length: weight.w.length, decay });
    }
  };

  return {
    name: "this project",
    async product(layout, calls) {
      const kernel = { nn: matmulNN, nt: matmulNT, tn: matmulTN }[layout];
      const start = performance.now();
      for (let i = 0; i < calls; i++) {
        device.run(kernel, { a, b, c }, { m: SIDE, n: SIDE, k: SIDE, accumulate: 0 });
      }
      const [words] = await device.read([part(c, 0, 2 * SIDE)]);
      return { milliseconds: performance.now() - start, element: new Float32Array(words)[SIDE + 2] };
    },
    async steps(count) {
      const start = performance.now();
      for (let i = 0; i < count; i++) run();
      const [words] = await device.read([squares]);
      const loss = new Float32Array(words).reduce((sum, word) => sum + word, 0) / squares.length;
      return { milliseconds: performance.now() - start, loss };
    },
    close: () => device.close(),
  };
}
