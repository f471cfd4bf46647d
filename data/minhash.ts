/**
 * How alike two texts are: Jaccard similarity of their sets of pieces of five characters, and its estimate by MinHash
 * (Broder, "On the resemblance and containment of documents", 1997).
 *
 * @module
 */

/** Characters (UTF-16 units) of a piece. Five suit alphabets and Chinese alike, without cutting words. */
const pieceLength = 5;
/** Hash functions of a signature: enough for the bands below at every threshold. */
export const permutations = 128;
/** Words of 32 bits of a sketch: one bit for each hash function. */
export const sketchWords = permutations / 32;

/** Odd factors and offsets of the hash functions, from a fixed sequence (Weyl with the finaliser of MurmurHash3). */
const offsets = new Int32Array(permutations), factors = new Int32Array(permutations);
for (let i = 0; i < permutations; i++) {
  offsets[i] = mix(Math.imul(2 * i + 1, 0x9e3779b1));
  factors[i] = mix(Math.imul(2 * i + 2, 0x9e3779b1)) | 1;
}

/** The finaliser of MurmurHash3 (Appleby, public domain). */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** What counts of a text: letters, marks and numbers in lower case, everything else as one space. */
function essence(text: string): string {
  return text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}]+/gu, " ").trim();
}

/** Hashes (32 bits) of the pieces of a text, ascending, each once. A text shorter than a piece is one piece. */
export function piecesOf(text: string): Uint32Array {
  const plain = essence(text), count = Math.max(1, plain.length - pieceLength + 1);
  const hashes = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    let h = 0x2545f491;
    const end = Math.min(plain.length, i + pieceLength);
    for (let j = i; j < end; j++) h = Math.imul(h ^ plain.charCodeAt(j), 0x9e3779b1) + (h >>> 15) | 0;
    hashes[i] = mix(h);
  }
  hashes.sort();
  let kept = 0;
  for (const hash of hashes) if (kept === 0 || hash !== hashes[kept - 1]) hashes[kept++] = hash;
  return hashes.slice(0, kept);
}

/** |A and B| / |A or B| of two ascending lists without repeats. */
export function jaccard(a: Uint32Array, b: Uint32Array): number {
  let both = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) {
      both++;
      i++;
      j++;
    } else if (a[i] < b[j]) i++;
    else j++;
  }
  return both / (a.length + b.length - both);
}

/** The least value of each hash function over the pieces. Two texts agree in a value with probability = similarity. */
export function signatureOf(
  pieces: Uint32Array,
  into: Uint32Array = new Uint32Array(permutations),
): Uint32Array {
  into.fill(0xffff_ffff);
  for (const piece of pieces) {
    for (let i = 0; i < permutations; i++) {
      const h = Math.imul(piece ^ offsets[i], factors[i]);
      const value = (h ^ (h >>> 15)) >>> 0;
      if (value < into[i]) into[i] = value;
    }
  }
  return into;
}

/**
 * One bit of each value (Li and König, "b-Bit minwise hashing", 2010): little enough to keep for every document, and
 * enough to see at once that two are not alike.
 */
export function sketchOf(signature: Uint32Array, into: Uint32Array, at: number): void {
  for (let w = 0; w < sketchWords; w++) {
    let bits = 0;
    for (let b = 0; b < 32; b++) bits |= (mix(signature[32 * w + b]) & 1) << b;
    into[at + w] = bits;
  }
}

/** Whether two sketches may belong to texts with at least this similarity: false for fewer than one such pair in 10,000. */
export function mayBeAlike(sketches: Uint32Array, a: number, b: number, threshold: number): boolean {
  let differ = 0;
  for (let w = 0; w < sketchWords; w++) differ += bitCount(sketches[a + w] ^ sketches[b + w]);
  // Bits differ with probability (1 - similarity) / 2, independently: the mean and four standard deviations.
  const p = (1 - threshold) / 2;
  return differ <= permutations * p + 4 * Math.sqrt(permutations * p * (1 - p)) + 1;
}

function bitCount(v: number): number {
  v -= (v >>> 1) & 0x55555555;
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Bands of locality-sensitive hashing: `count` groups of `rows` values, in one of which two alike texts must agree. */
export interface Bands {
  readonly count: number;
  readonly rows: number;
}

/**
 * The bands that miss fewest unlike texts while a pair at the threshold agrees somewhere with at least the probability
 * `recall` = 1 - (1 - threshold^rows)^count.
 */
export function bandsFor(threshold: number, recall: number): Bands {
  for (let rows = 16; rows > 1; rows--) {
    const count = Math.floor(permutations / rows);
    if (1 - (1 - threshold ** rows) ** count >= recall) return { count, rows };
  }
  return { count: permutations, rows: 1 };
}

/** One word for the values of a band. */
export function bandKey(values: ArrayLike<number>, from: number, rows: number, stride: number): number {
  let key = rows;
  for (let r = 0; r < rows; r++) key = mix(Math.imul(key, 31) ^ values[from + r * stride]);
  return key >>> 0;
}
