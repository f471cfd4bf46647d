/**
 * Programs that are the same for single words and for four at a time.
 *
 * @module
 */

/** Put in front of a program that takes words one by one: `Element`, `span` (words of an element), `total(element)`,
 * `fold(sum, element)`, which adds word after word so that both forms of a program sum in the same order. */
export const SINGLE = `alias Element = f32;
const span = 1u;
fn total(element: Element) -> f32 { return element; }
fn fold(sum: f32, element: Element) -> f32 { return sum + element; }
`;

/** Put in front of the same program to take four words at a time. */
export const FOURFOLD = `alias Element = vec4f;
const span = 4u;
fn total(element: Element) -> f32 { return (element.x + element.y) + (element.z + element.w); }
fn fold(sum: f32, element: Element) -> f32 {
  return (((sum + element.x) + element.y) + element.z) + element.w;
}
`;
