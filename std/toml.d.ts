/** Throws a SyntaxError that names the line. */
export function parse(text: string): Record<string, unknown>;
export function stringify(value: Record<string, unknown>): string;
