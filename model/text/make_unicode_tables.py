#!/usr/bin/env python3
"""Writes unicode_tables.cc: how Hugging Face `tokenizers` classes every code point.

The reference mixes several ages of Unicode (a crate from 2016 for punctuation, Unicode 16 in its regular expressions, an
old table for normalisation), so its answers are read off it, one code point at a time. Where a library of ours knows
most of a property, only what it lacks is written down; those lacks are relative to Unicode 14, which Python 3.11,
PCRE2 10.42 and (for case and normalisation, with 15) utf8proc 2.8 have at least.

Run with tokenizers 0.23 under Python 3.11: model/text/make_unicode_tables.py > model/text/unicode_tables.cc
"""

import sys
import unicodedata

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(points) -> list:
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def matched_by(expression: str) -> set:
    remove = normalizers.Replace(Regex(expression), "")
    kept = set()
    for i in range(0, len(CODE_POINTS), 1000):
        kept |= set(map(ord, remove.normalize_str("".join(map(chr, CODE_POINTS[i:i + 1000])))))
    return set(CODE_POINTS) - kept


def split_by(pre_tokenizer) -> set:
    return {c for c in CODE_POINTS if len(pre_tokenizer.pre_tokenize_str(f"a{chr(c)}a")) > 1}


def bert(**options):
    return normalizers.BertNormalizer(**({"clean_text": False, "handle_chinese_chars": False, "strip_accents": False,
                                          "lowercase": False} | options)).normalize_str


def nonspacing_marks() -> set:
    # The reference decomposes first: a character that vanishes decomposes into marks only. Those that do not decompose
    # are marks themselves, and the others decompose into such.
    strip, nfd = bert(strip_accents=True), normalizers.NFD().normalize_str
    return {c for c in CODE_POINTS if nfd(chr(c)) == chr(c) and strip("a" + chr(c)) == "a"}


def untouched_by_normalisation() -> set:
    """Characters our library normalises and the reference, being older, leaves where and as they are."""
    forms = {name: getattr(normalizers, name)().normalize_str for name in ("NFC", "NFD", "NFKC", "NFKD")}
    nfd = forms["NFD"]
    unassigned_in_14 = {c for c in CODE_POINTS if unicodedata.category(chr(c)) == "Cn"}
    newer = {c for c in unassigned_in_14 if c not in UNASSIGNED}
    out = set(newer)
    for c in CODE_POINTS:
        s = chr(c)
        ours_differs = unicodedata.combining(s) != 0 or any(unicodedata.normalize(f, s) != s for f in forms)
        if not ours_differs:
            continue
        reference_moves = nfd("a\u0315" + s) != "a\u0315" + nfd(s) or nfd("a" + s + "\u0334") != "a" + nfd(s) + "\u0334"
        if not reference_moves and all(f(s) == s for f in forms.values()):
            out.add(c)
        else:
            assert all(forms[f](s) == unicodedata.normalize(f, s) or c in newer or not reference_moves for f in forms), hex(c)
    for c in newer:  # what is newer must be unknown to the reference, or this would be wrong
        assert all(f(chr(c)) == chr(c) for f in forms.values()), hex(c)
    return out


def lowercase_beyond_14() -> list:
    lower = normalizers.Lowercase().normalize_str
    out = []
    for c in CODE_POINTS:
        theirs, ours = lower(chr(c)), chr(c).lower()
        if theirs == ours or c == 0x3A3:
            continue
        assert len(theirs) == 1 and ours == chr(c), hex(c)
        delta = ord(theirs) - c
        if out and out[-1][1] == c - 1 and out[-1][2] == delta:
            out[-1][1] = c
        else:
            out.append([c, c, delta])
    return out


def table(name: str, comment: str, rows: list) -> None:
    print(f"// {comment}")
    kind = "CaseRange" if rows and len(rows[0]) == 3 else "RuneRange"
    print(f"constexpr {kind} k{name}[] = {{")
    line = "   "
    for row in rows:
        item = " {" + ", ".join([f"0x{v:X}" for v in row[:2]] + [str(v) for v in row[2:]]) + "},"
        if len(line) + len(item) > 110:
            print(line)
            line = "   "
        line += item
    print(line)
    print("};\n")


UNASSIGNED = matched_by(r"\p{Cn}")


def main() -> None:
    assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11"
    print(f"// Made by make_unicode_tables.py from tokenizers {tokenizers.__version__}; do not edit.\n// clang-format off")
    print('#include "model/text/unicode_tables.h"\n\nnamespace coterie::text {\nnamespace {\n')
    table("NumericRanges", "Digits: char::is_numeric.", ranges(split_by(pre_tokenizers.Digits(individual_digits=True))))
    table("PunctuationRanges", "Punctuation, BertPreTokenizer: ASCII punctuation and symbols, category P.",
          ranges(split_by(pre_tokenizers.Punctuation())))
    word = {c for c in CODE_POINTS if len(pre_tokenizers.Whitespace().pre_tokenize_str(f"a{chr(c)}a")) == 1}
    table("WordRanges", r"Whitespace and single_word: \w.", ranges(word))
    clean = bert(clean_text=True)
    table("OtherRanges", "BertNormalizer clean_text: categories Cc, Cf, Co.",
          ranges({c for c in CODE_POINTS if c != 0xFFFD and clean(f"a{chr(c)}a") == "aa"} | {9, 10, 13}))
    table("NonspacingMarkRanges", "BertNormalizer strip_accents: category Mn.", ranges(nonspacing_marks()))
    strip = normalizers.StripAccents().normalize_str
    table("MarkRanges", "StripAccents: category M.", ranges({c for c in CODE_POINTS if strip("a" + chr(c)) == "a"}))
    table("FixedRanges", "Left alone by NFC, NFD, NFKC and NFKD though newer Unicode normalises them.",
          ranges(untouched_by_normalisation()))
    table("NewLowercase", "Lower case beyond Unicode 14: first, last, what to add.", lowercase_beyond_14())
    names = []
    for category in ["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
                     "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cf", "Co"]:
        theirs = matched_by(rf"\p{{{category}}}")
        new = {c for c in theirs if unicodedata.category(chr(c)) != category}
        if new:
            names.append(category)
            table(f"New{category}", rf"\p{{{category}}} in regular expressions, beyond Unicode 14.", ranges(new))
    print("constexpr NewCategory kNewCategories[] = {")
    for category in names:
        print(f'    {{"{category}", k{"New" + category}}},')
    print("};\n\n}  // namespace\n")
    for name in ["NumericRanges", "PunctuationRanges", "WordRanges", "OtherRanges", "NonspacingMarkRanges", "MarkRanges", "FixedRanges"]:
        print(f"std::span<const RuneRange> {name}() {{ return k{name}; }}")
    print("std::span<const CaseRange> NewLowercase() { return kNewLowercase; }")
    print("std::span<const NewCategory> NewCategories() { return kNewCategories; }")
    print("\n}  // namespace coterie::text")


if __name__ == "__main__":
    sys.exit(main())
