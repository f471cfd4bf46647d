#!/bin/sh
# Fetches the text of the bilingual example into ./texts: Debian's documentation in English and Chinese (about 40 MB of
# text), WordNet's glosses and the dictionary CC-CEDICT. Needs Debian or Ubuntu with its package lists, no root.
set -eu
cd "$(dirname "$0")"
mkdir -p texts/packages texts/unpacked texts/english texts/chinese texts/dictionaries
(
  cd texts/packages
  apt-get download linux-doc-6.1 debian-reference-en debian-reference-zh-cn vim-doc perl-doc
)
for package in texts/packages/*.deb; do dpkg -x "$package" texts/unpacked; done
# The kernel's documentation (reStructuredText), its Chinese translations apart; the Debian reference; Vim's and Perl's manuals.
find texts/unpacked -type f \( -name '*.rst.gz' -o -name '*.txt.gz' \) -exec gunzip -f {} +
find texts/unpacked -type f \( -name '*.rst' -o -name '*.txt' -o -name '*.pod' \) | while read -r file; do
  case "$file" in
    */_sources/*) continue ;; # the same again, beside the pages made of it
    */zh_CN/* | */zh_TW/* | *zh-cn*) language=chinese ;;
    */translations/*) continue ;;
    *) language=english ;;
  esac
  name=$(echo "$file" | cut -d/ -f3- | tr '/' '_')
  cp "$file" "texts/$language/${name%.*}.txt"
done
# The dictionaries come from npm: one entry a line.
deno run --allow-read --allow-env --allow-write=texts dictionaries.ts texts/dictionaries
du -sh texts/english texts/chinese texts/dictionaries
