/**
 * The attention programs, written out for one head size and one tile. A lane keeps a tile of rows (queries, or keys in the backward
 * pass of keys and values) in registers and streams the other side past it, so that each loaded vector serves the whole tile;
 * registers need constant indices, hence text with every head size spelled out.
 *
 * Legend: r row of the tile, w vector of four inside a head (`words` = headDim / 4 rounded up; the last may be padded with zeros),
 * b key of the block that shares one rescaling of the online softmax.
 *
 * A tile's rows are (position, query head of the group) pairs of one kv head, head fastest: whatever the group's size, one stream
 * of keys and values serves them all.
 *
 * @module
 */

import { chain, each, Heads, opening, pick, registers, shift, type Tile, upTo } from "./tile.ts";

/**
 * Forward, over the sequences' own keys and values or over a cache. Masked scores become so small that their exponential is
 * zero; the first key is visible to every row, so the running maximum is real from the first block on.
 */
export function forwardProgram(tile: Tile, source: "sequence" | "cache"): string {
  const { rows, block } = tile;
  const heads = new Heads(tile.headDim);
  const { words, size } = heads;
  const cached = source === "cache";
  const length = cached ? "params.rows" : "params.seq";
  const key = cached ? "keys" : "qkv";
  const value = cached ? "values" : "qkv";
  const top = rows - 1;
  return `${
    opening(
      tile,
      `(${length} * share + ${top}u) / ${rows}u`,
      cached ? "params.kvHeads" : "params.batch * params.kvHeads",
    )
  }
  let base = ${cached ? "0u" : "(pair / params.kvHeads) * params.seq"};
  let stride = (params.heads + 2u * params.kvHeads) * ${size}u;
  let step = ${cached ? `params.kvHeads * ${size}u` : "stride"};
  var key = ${cached ? `kv * ${size}u` : `base * stride + (params.heads + kv) * ${size}u`};
  let toValue = ${cached ? "0u" : `params.kvHeads * ${size}u`};
  let ends = ${length} * share;
  let scale = f32(${1 / Math.sqrt(tile.headDim)});
  ${registers(rows, words, ["q", "o"], ["t", "sum"])}
  ${each(rows, (r) => `var top${r} = -3.0e38;`)}
  for (var n = first; n < first + ${rows}u; n++) {
    ${shift(rows, words, ["q"], ["t"])}
    let i = min(n, ends - 1u);
    let at = (base + i / share) * stride + (kv * share + i % share) * ${size}u;
    t${top} = ${cached ? "params.start + " : ""}i / share;
    ${each(words, (w) => `q${top}_${w} = ${heads.load("qkv", "at", w)} * scale;`)}
  }
  let last = t${top};
  let end = key + last * step;
  for (var j = 0u; j <= last; j += ${block}u) {
    ${
    each(block, (b) => `
    let at${b} = min(key + ${b}u * step, end);
    ${each(rows, (r) => `var a${r}_${b} = 0.0;`)}
    ${
      each(words, (w) =>
        `{ let k = ${heads.load(key, `at${b}`, w)};
    ${each(rows, (r) => `${chain(`a${r}_${b}`, `q${r}_${w}`, "k")}`)} }`)
    }`)
  }
    ${
    each(rows, (r) => `
    ${each(block, (b) => `let s${r}_${b} = select(-3.0e38, a${r}_${b}, j + ${b}u <= t${r});`)}
    let next${r} = ${upTo(block).reduce((text, b) => `max(${text}, s${r}_${b})`, `top${r}`)};
    let shrink${r} = exp(top${r} - next${r});
    top${r} = next${r};
    ${each(block, (b) => `let p${r}_${b} = exp(s${r}_${b} - next${r});`)}
    sum${r} = ${upTo(block).reduce((text, b) => `${text} + p${r}_${b}`, `sum${r} * shrink${r}`)};
    ${each(words, (w) => `o${r}_${w} *= shrink${r};`)}`)
  }
    ${
    each(block, (b) => `
    {
      let at = at${b} + toValue;
      ${
      each(words, (w) =>
        `{ let v = ${heads.load(value, "at", w)};
      ${each(rows, (r) => `o${r}_${w} += p${r}_${b} * v;`)} }`)
    }
    }`)
  }
    key += ${block}u * step;
  }
  for (var r = 0u; r < min(${rows}u, ends - first); r++) {
    let n = first + r;
    let row = (base + n / share) * params.heads + kv * share + n % share;
    let to = row * ${size}u;
    let sum = ${pick(rows, (r) => `sum${r}`)};
    let whole = 1.0 / sum;
    ${each(words, (w) => heads.store("out", "to", w, `${pick(rows, (r) => `o${r}_${w}`)} * whole`))}
    ${cached ? "" : `lse[row] = ${pick(rows, (r) => `top${r}`)} + log(sum);`}
  }
}
`;
}

/** Backward to the queries: a tile of queries, keys and values stream past. */
export function backwardQProgram(tile: Tile): string {
  const { rows } = tile;
  const heads = new Heads(tile.headDim);
  const { words, size } = heads;
  const top = rows - 1;
  return `${opening(tile, `(params.seq * share + ${top}u) / ${rows}u`, "params.batch * params.kvHeads")}
  let base = (pair / params.kvHeads) * params.seq;
  let stride = (params.heads + 2u * params.kvHeads) * ${size}u;
  let ends = params.seq * share;
  let scale = f32(${1 / Math.sqrt(tile.headDim)});
  ${registers(rows, words, ["q", "g", "d"], ["t", "lse", "delta"])}
  for (var n = first; n < first + ${rows}u; n++) {
    ${shift(rows, words, ["q", "g"], ["t", "lse", "delta"])}
    let i = min(n, ends - 1u);
    let t = i / share;
    let h = kv * share + i % share;
    let at = (base + t) * stride + h * ${size}u;
    let row = (base + t) * params.heads + h;
    let origin = row * ${size}u;
    t${top} = t;
    lse${top} = lse[row];
    delta${top} = delta[row];
    ${
    each(words, (w) =>
      `q${top}_${w} = ${heads.load("qkv", "at", w)} * scale;
    g${top}_${w} = ${heads.load("dout", "origin", w)};`)
  }
  }
  var key = base * stride + (params.heads + kv) * ${size}u;
  let toValue = params.kvHeads * ${size}u;
  for (var j = 0u; j <= t${top}; j++) {
    let value = key + toValue;
    ${each(rows, (r) => `var a${r} = 0.0; var b${r} = 0.0;`)}
    ${
    each(words, (w) =>
      `let k${w} = ${heads.load("qkv", "key", w)};
    ${each(rows, (r) => `${chain(`a${r}`, `q${r}_${w}`, `k${w}`)}`)}
    { let v = ${heads.load("qkv", "value", w)};
    ${each(rows, (r) => `${chain(`b${r}`, `g${r}_${w}`, "v")}`)} }`)
  }
    ${
    each(rows, (r) =>
      `let p${r} = select(0.0, exp(a${r} - lse${r}), j <= t${r});
    let ds${r} = p${r} * (b${r} - delta${r});`)
  }
    ${each(words, (w) => each(rows, (r) => `d${r}_${w} += ds${r} * k${w};`))}
    key += stride;
  }
  for (var r = 0u; r < min(${rows}u, ends - first); r++) {
    let n = first + r;
    let to = (base + n / share) * stride + (kv * share + n % share) * ${size}u;
    ${each(words, (w) => heads.store("dqkv", "to", w, `${pick(rows, (r) => `d${r}_${w}`)} * scale`))}
  }
}
`;
}

/**
 * Backward to keys and values: a tile of keys, the queries that see them stream past, head by head. Values are rows behind
 * the keys' (v of row r is k of row `rows` + r, and so with gradients), so that one text loads both and one stores both.
 */
export function backwardKVProgram(tile: Tile): string {
  const { rows } = tile;
  const heads = new Heads(tile.headDim);
  const { words, size } = heads;
  const top = 2 * rows - 1;
  // Counted from `first`, since compilers write loops out whose number of turns they know.
  const place = `let r = n - first;
    let value = r >= ${rows}u;
    let toRow = (params.heads + kv) * ${size}u + select(0u, params.kvHeads * ${size}u, value);
    let factor = select(scale, 1.0, value);`;
  return `${opening(tile, `(params.seq + ${rows - 1}u) / ${rows}u`, "params.batch * params.kvHeads")}
  let base = (pair / params.kvHeads) * params.seq;
  let stride = (params.heads + 2u * params.kvHeads) * ${size}u;
  let scale = f32(${1 / Math.sqrt(tile.headDim)});
  ${registers(2 * rows, words, ["k", "d"], [])}
  for (var n = first; n < first + ${2 * rows}u; n++) {
    ${shift(2 * rows, words, ["k"], [])}
    ${place}
    let at = (base + min(first + r % ${rows}u, params.seq - 1u)) * stride + toRow;
    ${each(words, (w) => `k${top}_${w} = ${heads.load("qkv", "at", w)} * factor;`)}
  }
  for (var h = kv * share; h < (kv + 1u) * share; h++) {
    var row = (base + first) * params.heads + h;
    var query = (base + first) * stride + h * ${size}u;
    for (var t = first; t < params.seq; t++) {
      let origin = row * ${size}u;
      ${each(rows, (r) => `var a${r} = 0.0; var b${r} = 0.0;`)}
      ${
    each(words, (w) =>
      `let q${w} = ${heads.load("qkv", "query", w)};
      let g${w} = ${heads.load("dout", "origin", w)};
      ${
        each(
          rows,
          (r) => `${chain(`a${r}`, `k${r}_${w}`, `q${w}`)} ${chain(`b${r}`, `k${rows + r}_${w}`, `g${w}`)}`,
        )
      }`)
  }
      let bottom = lse[row];
      let mean = delta[row];
      ${
    each(rows, (r) =>
      `let p${r} = select(0.0, exp(a${r} - bottom), first + ${r}u <= t);
      let ds${r} = p${r} * (b${r} - mean);`)
  }
      ${
    each(words, (w) => each(rows, (r) => `d${r}_${w} += ds${r} * q${w}; d${rows + r}_${w} += p${r} * g${w};`))
  }
      row += params.heads;
      query += stride;
    }
  }
  for (var n = first; n < first + ${2 * rows}u; n++) {
    ${place}
    if (first + r % ${rows}u < params.seq) {
      let to = (base + first + r % ${rows}u) * stride + toRow;
      ${each(words, (w) => heads.store("dqkv", "to", w, `${pick(2 * rows, (r) => `d${r}_${w}`)} * factor`))}
    }
  }
}
`;
}
