#!/usr/bin/env python3
"""Strings and the token ids that Hugging Face `tokenizers` gives them, for every kind of tokenizer we read.

Writes
  token_strings.json   list of strings; {"hex": "..."} where the bytes are not UTF-8. For those the expected ids are
                       the ids of bytes.decode("utf-8", errors="replace"): U+FFFD for each maximal ill-formed part.
  tokens-<kind>.bin    little-endian: "CTOK", u32 version (1), u32 n_strings; then for every string two lists, each
                       u16 n and n u16 ids. The first is what `tokenizers` does with the text (control tokens written
                       out in it are parsed), without bos, eos, [CLS] or [SEP]. The second is the same without the
                       special added tokens, as text that no one trusts is read; n = 65535 and no ids: same as the first.
  token_decodes.json   {kind: [{"ids", "skip_special", "text"}]}: random ids to text.
  ../data/tokenizers/<kind>/tokenizer.json   of the kinds that have no published file here: small vocabularies trained
                       on the strings below, with the regular expression and settings of the named family.

Kinds: smollm2 (the GGUF's own vocabulary and merges), minilm (all-MiniLM-L6-v2's tokenizer.json),
llama3-like and qwen2-like (byte-level BPE with those families' expressions), llama2-like (SentencePiece-style BPE
with byte fallback and no pre-tokenizer) and metaspace (the same with Metaspace, as newer files write it).
"""

import json
import pathlib
import random
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data/tokenizers"
sys.path.insert(0, str(HERE.parent.parent / "tools/train"))
from coterie_experts.product import binaries  # noqa: E402
from coterie_experts.training import base_model  # noqa: E402

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SENTENCES = """
The quick brown fox jumps over the lazy dog; it didn't look back.
I'll say we've done what they're told, she'd said, and it's HE'LL that isn't I'M.
SELECT name, COUNT(*) FROM users WHERE id >= 1024 AND email LIKE '%@example.org' GROUP BY name;
def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n
for (size_t i = 0; i < v.size(); ++i) { sum += v[i] * 0x1F; } // done\n\treturn sum;
fn main() { let x: Vec<u8> = vec![1, 2, 3]; println!("{:?}", &x[..2]); }
<div class="a b" id='c'>Text &amp; more&nbsp;text</div><!-- note -->
{"key": [1, 2.5e-3, null, true], "nested": {"a\\"b": "c\\n"}}
https://example.org/path?q=1&r=%20x#frag user.name+tag@mail.example.com /usr/lib/x86_64-linux-gnu
Der Übergrößenträger aß süße Äpfel, während die Straße naß war. »Wirklich?« „Ja!“
L'été dernier, où étiez-vous ? Ça coûte 12,50 € — c'est l'œuvre d'un garçon naïf.
¿Dónde está el niño? ¡Mañana comeré piñas en el café!
A ação não é fácil; avó, pé, coração e pão.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Zażółć gęślą jaźń, a Łódź leży w Polsce.
Съешь же ещё этих мягких французских булок да выпей чаю.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, ΐ ΰ.
İstanbul'da ılık bir IŞIK vardı; ÇĞÖŞÜ.
Thật là một ngày đẹp trời ở Hà Nội, phải không?
نص عربي مع تشكيل: بِسْمِ ٱللَّٰهِ ١٢٣
שָׁלוֹם עולם, מה שלומך היום?
नमस्ते दुनिया, क्षत्रिय ज्ञान १२३
বাংলা ভাষা সুন্দর। தமிழ் மொழி அழகு. తెలుగు భాష
สวัสดีชาวโลก วันนี้อากาศดีมาก
你好，世界！今天天气很好。繁體中文測試。
こんにちは世界。カタカナとﾊﾝｶｸとひらがな。
안녕하세요 세계! 한국어 문장입니다.
Հայերեն այբուբեն, ქართული ანბანი, አማርኛ ፊደል
ភាសាខ្មែរ ລາວ မြန်မာ སྐད་ཡིག་ සිංහල
👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️‍🔥 ☃︎ ☃️ 1️⃣ 🤷🏾‍♀️ 🧑🏻‍🚀
∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ∑ᵢ₌₁ⁿ i² ≤ ∫₀^∞ e^{−x} dx; α≠β ± 10⁻³
½ ¾ Ⅷ ① ㊗ ㎏ ﬁ ﬂ ǆ ſ ﷺ ℡ Å Ω µ ² ³ ٣ ३ ๓ 𝟛 𝓗𝓮𝓵𝓵𝓸
e\u0301 vs \u00e9, n\u0303 vs \u00f1, a\u0308\u0323 vs a\u0323\u0308, \u1112\u1161\u11ab vs 한, Z\u0351\u036b\u0343\u034a\u0352a\u0300l\u0301
zero\u200bwidth\u200cjoin\u200dmarks\ufeffbom soft\u00adhyphen nb\u00a0space thin\u2009space ideographic\u3000space line\u2028sep para\u2029sep nel\u0085end
In 2024, 1234567890 people paid $3.14 or 1,000,000.00 (99.9%) on 12/31/99 at 23:59:59; v1.2.3-rc4.
aAbBcC camelCase snake_case kebab-case SCREAMING_SNAKE PascalCase x1y2z3 3D 2nd H2O
... !!! ??? --- === *** ### @@@ ~~~ ``` ((( ))) [[ ]] {{ }} << >> ;; :: // \\\\ || && ^^ %% $$
In the beginning God created the heaven and the earth. And the earth was without form, and void.
""".strip().split("\n")

SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|begin_of_text|>", "<s>", "</s>", "<unk>",
            "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "<0x41>", "<repo_name>", "<file_sep>", "<|im_end", "im_end|>", "<|", "|>", "[cls]"]
BLOCKS = [(0x20, 0x7e), (0xa0, 0x17f), (0x180, 0x24f), (0x250, 0x2af), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x52f),
          (0x530, 0x58f), (0x590, 0x5ff), (0x600, 0x6ff), (0x700, 0x74f), (0x900, 0x97f), (0x980, 0x9ff), (0xa00, 0xa7f),
          (0xb80, 0xbff), (0xc00, 0xc7f), (0xd00, 0xd7f), (0xd80, 0xdff), (0xe00, 0xe7f), (0xe80, 0xeff), (0xf00, 0xfff),
          (0x1000, 0x109f), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x1200, 0x137f), (0x13a0, 0x13ff), (0x1780, 0x17ff),
          (0x1800, 0x18af), (0x1e00, 0x1eff), (0x1f00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x209f), (0x20a0, 0x20cf),
          (0x2100, 0x214f), (0x2150, 0x218f), (0x2190, 0x21ff), (0x2200, 0x22ff), (0x2300, 0x23ff), (0x2460, 0x24ff),
          (0x2500, 0x257f), (0x2600, 0x26ff), (0x2700, 0x27bf), (0x2c60, 0x2c7f), (0x2e80, 0x2eff), (0x3000, 0x303f),
          (0x3040, 0x30ff), (0x3100, 0x312f), (0x3130, 0x318f), (0x3200, 0x32ff), (0x3400, 0x34ff), (0x4e00, 0x5fff),
          (0xa000, 0xa0ff), (0xac00, 0xb0ff), (0xe000, 0xe0ff), (0xf900, 0xfaff), (0xfb00, 0xfb4f), (0xfb50, 0xfbff),
          (0xfe00, 0xfe0f), (0xfe30, 0xfe6f), (0xff00, 0xffef), (0xfff0, 0xffff), (0x10000, 0x1007f), (0x10330, 0x1034f),
          (0x10400, 0x1044f), (0x12000, 0x120ff), (0x13000, 0x130ff), (0x1d400, 0x1d4ff), (0x1d7ce, 0x1d7ff),
          (0x1e900, 0x1e95f), (0x1f1e6, 0x1f1ff), (0x1f300, 0x1f5ff), (0x1f600, 0x1f64f), (0x1f900, 0x1f9ff),
          (0x20000, 0x2007f), (0x2f800, 0x2f81f), (0xe0000, 0xe007f), (0x10ff00, 0x10ffff)]
SPACES = [" ", "  ", "   ", "    ", "        ", "\n", "\n\n", "\n\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", " \n ", "\n\t", " \t",
          "\u00a0", "\u3000", "\u2003", "\u200b", "\u0085", "\u2028", "\x0b", "\x0c", "\x00", "\x1c", "\x1f", "\x7f", "\ufeff", "\u180e"]


def younger_than_reference() -> set[int]:
    """Code points that the reference's WordPiece takes for something else than Unicode 14 does: its category tables are
    of Unicode 8, ours are newer, and marks and punctuation signs have been added or moved since."""
    normalizer, pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    differ = set()
    for low, high in BLOCKS:
        for code in range(low, high + 1):
            if 0xd800 <= code < 0xe000 or unicodedata.normalize("NFD", chr(code)) != chr(code):
                continue
            text = f"a{chr(code)}a"
            category = unicodedata.category(chr(code))
            is_mark = normalizer.normalize_str(text) == "aa"
            is_sign = len(pre_tokenizer.pre_tokenize_str(text)) == 3
            if code <= 0x7f or code == 0xfffd or category[0] in "CZ":
                continue  # ruled by definition, not by category
            if (is_mark, is_sign) != (category == "Mn", category[0] == "P"):
                differ.add(code)
    return differ


def make_strings() -> list:
    rng = random.Random(20)
    younger = younger_than_reference()
    strings = ["", " ", "\n", "a", "\x00", "'s", "'S", " 's", "''", "don't", "DON'T", "don\u2019t"]
    sentences = [s.encode().decode("unicode_escape").encode("latin-1", "surrogatepass").decode("utf-8", "surrogatepass")
                 if "\\u" not in s and "\\n" in s and s.isascii() else s for s in SENTENCES]
    sentences = [s.encode("ascii", "backslashreplace").decode("unicode_escape") if "\\u" in s else s for s in sentences]
    strings += sentences
    strings += SPACES + [a + b for a in SPACES[:12] for b in SPACES[:12]]
    strings += [f"{s}{w}{t}" for w in ("x", "word", "7", ".", "é", "字") for s in SPACES for t in ("", " ", "\n", "!")]
    strings += SPECIALS + [a + b + c for a in ("", "x", " ", "Hi ") for b in SPECIALS for c in ("", " ", "y", "\n")]
    strings += ["<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"]
    strings += [c * n for c in "a1 \n.é字👍_" for n in (2, 3, 4, 5, 7, 8, 9, 16, 33)]
    strings += [str(n) for n in (7, 10, 99, 100, 123, 1234, 12345, 123456, 1234567)] + ["1a2", "3.14", "1,000", "0x1F", "٣٤", "१२३", "½", "²³", "Ⅷ"]
    for low, high in BLOCKS:  # every script: single characters and short runs
        characters = [chr(c) for c in range(low, high + 1) if not 0xd800 <= c < 0xe000 and c not in younger]
        for _ in range(8):
            strings.append("".join(rng.choice(characters) for _ in range(rng.randint(1, 6))))
        strings.append(" ".join("".join(rng.choice(characters) for _ in range(3)) for _ in range(3)))
    words = [w for s in sentences for w in s.split(" ")]
    mixed = [chr(c) for low, high in BLOCKS[:40] for c in range(low, high + 1) if c not in younger]
    while len(strings) < 5100:  # mixtures of all that
        parts = []
        for _ in range(rng.randint(1, 6)):
            kind = rng.random()
            if kind < 0.5:
                parts.append(rng.choice(words))
            elif kind < 0.6:
                parts.append("".join(rng.choice(mixed) for _ in range(rng.randint(1, 3))))
            elif kind < 0.7:
                parts.append(str(rng.randint(0, 10 ** rng.randint(1, 8))))
            elif kind < 0.75:
                parts.append(rng.choice(SPECIALS))
            elif kind < 0.85:
                parts.append(rng.choice(["'s", "'t", "'re", "'LL", "'d", "n't", "..", "?!", "->", "==", "_", "#", "\u0301", "\u200d", "\ufe0f"]))
            else:
                parts.append(words[rng.randrange(len(words))].swapcase())
            if rng.random() < 0.6:
                parts.append(rng.choice(SPACES) if rng.random() < 0.3 else " ")
        strings.append("".join(parts))
    broken = [b"\xff", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x91", b"\xf0\x9f\x91 ", b"\x80", b"\x80\x80", b"\xc0\xaf", b"\xe0\x80\x80",
              b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"a\xffb", b"\xfe\xff", b"\xef\xbf", b"ok \xe4\xbd\xa0\xe5\xa5 end"]
    while len(broken) < 300:
        raw = bytearray(rng.choice(words + ["你好", "👍🏽", "é", "Съешь"]).encode()[:14] + rng.choice(words).encode()[:6])
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(len(raw))] = rng.randint(0x80, 0xff)
        if rng.random() < 0.4:
            raw = raw[:rng.randint(1, len(raw))]
        broken.append(bytes(raw))
    return list(dict.fromkeys(strings)) + [b for b in dict.fromkeys(broken) if not _is_utf8(b)]


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def byte_level(expression: str, texts: list[str], specials: list[str], normalizer=None, ignore_merges=False):
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(expression), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return tokenizer


def sentencepiece_like(texts: list[str], metaspace: bool):
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if metaspace else "always", split=True)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=900, show_progress=False, limit_alphabet=200,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    spec = json.loads(tokenizer.to_str())
    # The 256 byte tokens are ordinary entries of the vocabulary in published files, not added tokens.
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["content"].startswith("<0x")]
    spec["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    if not metaspace:
        spec["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
        spec["pre_tokenizer"] = None
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def without_specials(tokenizer):
    spec = json.loads(tokenizer.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if not t["special"]]
    spec["post_processor"] = None
    return tokenizers.Tokenizer.from_str(json.dumps(spec))


def make_tokenizers(texts: list[str]) -> dict:
    llama3 = byte_level(LLAMA3, texts, ["<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>"], ignore_merges=True)
    bos = llama3.token_to_id("<|begin_of_text|>")
    llama3.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                                                          special_tokens=[("<|begin_of_text|>", bos)])
    made = {
        "llama3-like": llama3,
        "qwen2-like": byte_level(QWEN2, texts, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC()),
        "llama2-like": sentencepiece_like(texts, metaspace=False),
        "metaspace": sentencepiece_like(texts, metaspace=True),
    }
    for name, tokenizer in made.items():
        folder = DATA / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    minilm = tokenizers.Tokenizer.from_file(str(binaries.models_folder() / "all-MiniLM-L6-v2/tokenizer.json"))
    minilm.no_truncation()
    minilm.no_padding()
    return {"smollm2": base_model.load_tokenizer(binaries.find_base()), "minilm": minilm} | made


def main() -> None:
    strings = make_strings()
    texts = [s if isinstance(s, str) else s.decode("utf-8", errors="replace") for s in strings]
    stored = [s if isinstance(s, str) else {"hex": s.hex()} for s in strings]
    lines = ",\n".join(json.dumps(s, ensure_ascii=True, separators=(",", ":")) for s in stored)
    (HERE / "token_strings.json").write_text(f"[{lines}]\n")
    corpus = [t for t in texts[12:12 + len(SENTENCES)]] * 4 + texts[:2000:3]
    decodes = {}
    for kind, tokenizer in make_tokenizers(corpus).items():
        plain = without_specials(tokenizer)
        packed = [struct.pack("<4sII", b"CTOK", 1, len(texts))]
        total = different = 0
        for text in texts:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            untrusted = plain.encode(text, add_special_tokens=False).ids
            packed.append(struct.pack(f"<H{len(ids)}H", len(ids), *ids))
            packed.append(struct.pack("<H", 0xFFFF) if untrusted == ids else struct.pack(f"<H{len(untrusted)}H", len(untrusted), *untrusted))
            total += len(ids)
            different += untrusted != ids
        (HERE / f"tokens-{kind}.bin").write_bytes(b"".join(packed))
        rng = random.Random(7)
        size = tokenizer.get_vocab_size()
        lists = [[rng.randrange(size) for _ in range(rng.randint(1, 12))] for _ in range(150)]
        lists += [tokenizer.encode(t).ids for t in rng.sample(texts, 150)]
        decodes[kind] = [{"ids": ids, "skip_special": skip, "text": tokenizer.decode(ids, skip_special_tokens=skip)}
                         for i, ids in enumerate(lists) for skip in ([True, False][i % 2],)]
        print(f"{kind}: {len(texts)} strings, {total} ids, {different} read differently when untrusted, vocabulary {size}")
    rows = ",\n".join(f'"{k}":{json.dumps(v, ensure_ascii=True, separators=(",", ":"))}' for k, v in decodes.items())
    (HERE / "token_decodes.json").write_text("{" + rows + "}\n")


if __name__ == "__main__":
    main()
