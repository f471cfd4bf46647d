/**
 * Text that comes in lines, as processes and servers send it.
 *
 * @module
 */

/** The lines of a stream of UTF-8; what stands behind the last line's end was cut off and is left out. */
export async function* lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    const whole = (rest + piece).split("\n");
    rest = whole.pop()!;
    yield* whole;
  }
}

/** The JSON objects of a stream, one a line; empty lines are passed over. Throws for a line that is no JSON. */
export async function* objects<T = Record<string, unknown>>(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<T> {
  for await (const line of lines(stream)) if (line !== "") yield JSON.parse(line) as T;
}
