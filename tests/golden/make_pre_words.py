#!/usr/bin/env python3
"""How byte-level tokenizers cut words, as Hugging Face tokenizers does with each one's own expressions.

Writes pre_words.json: {name: [[bytes of each word of a text], ...]}, over every 12th text of token_strings.json that is
UTF-8 (as text; a name's texts begin one later each time, so that all are read by some).
"""

from __future__ import annotations

import json
import pathlib

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).resolve().parent
STEP = 12
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
FRONT = r"[^\r\n\p{L}\p{N}]?"
TEKKEN = f"{FRONT}{UPPER}*{LOWER}+|{FRONT}{UPPER}+{LOWER}*" + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL
GPT4O = f"{FRONT}{UPPER}*{LOWER}+{CONTRACTIONS}?|{FRONT}{UPPER}+{LOWER}*{CONTRACTIONS}?" + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL
DEEPSEEK_LETTERS = (r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}"
                    r"ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
                    r"𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")
DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|""" + TAIL)
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"


def splits(*patterns: str):
    return [pre_tokenizers.Split(Regex(p), behavior="isolated") for p in patterns]


BYTES, GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
KINDS = {  # name: steps, normalizer
    "gpt-2": ([GPT2], None),
    "smollm": ([DIGITS, GPT2], None),
    "llama-bpe": (splits(LLAMA3) + [BYTES], None),
    "smaug-bpe": (splits(LLAMA3) + [BYTES], None),
    "glm4": (splits(LLAMA3) + [BYTES], None),
    "qwen2": (splits(QWEN2) + [BYTES], normalizers.NFC()),
    "stablelm2": (splits(QWEN2) + [BYTES], None),
    "qwen35": (splits(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + TAIL) + [BYTES], normalizers.NFC()),
    "ufakzeka": (splits(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL) + [BYTES], None),
    "seed-coder": (splits(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + TAIL) + [BYTES], None),
    "minicpm5": (splits(r"\p{N}{1,3}", CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL) + [BYTES], None),
    "tekken": (splits(TEKKEN) + [BYTES], None),
    "gpt-4o": (splits(GPT4O) + [BYTES], None),
    "deepseek-llm": (splits(r"[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+")
                     + [pre_tokenizers.Digits(individual_digits=False), BYTES], None),
    "deepseek-coder": (splits(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+") + [DIGITS, BYTES], None),
    "deepseek-v3": (splits(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3) + [BYTES], None),
    "bloom": (splits(BLOOM) + [BYTES], None),
    "viking": (splits(BLOOM) + [DIGITS, BYTES], None),
}


def main() -> None:
    texts = [t for t in json.loads((HERE / "token_strings.json").read_text()) if isinstance(t, str)]
    rows = []
    for offset, (name, (steps, normalizer)) in enumerate(KINDS.items()):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        words = []
        for text in texts[offset % STEP::STEP]:
            normal = normalizer.normalize_str(text) if normalizer else text
            # In the byte alphabet every character is a byte.
            words.append([len(word) for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)])
        rows.append(f"{json.dumps(name)}:{json.dumps(words, separators=(',', ':'))}")
        print(f"{name}: {len(words)} texts, {sum(map(len, words))} words")
    (HERE / "pre_words.json").write_text("{" + ",\n".join(rows) + "}\n")


if __name__ == "__main__":
    main()
