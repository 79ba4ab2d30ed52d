#!/usr/bin/env python3
"""The seam between a prompt and what goes on after it, as Hugging Face tokenizers reads it.

Writes seams.json: tokenizers (a folder of ../data, and changes to its tokenizer.json as a JSON merge patch) and for each
  answers: [prompt, its ids, an answer's ids, the text they add]: decode(prompt + answer) less decode(prompt), of usual
           spellings and of random ids; cases whose decoded prompt is no beginning of the whole, or that are ill-formed
           UTF-8 (where streaming differs on purpose), are left out
  scores:  [prompt, its ids, a text, its ids after the prompt]: what encode(prompt + text) has more than encode(prompt),
           wherever it begins with those
"""

from __future__ import annotations

import json
import pathlib
import random

import tokenizers

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data"
META = "\u2581"
KINDS = [
    ("llama2-like", "tokenizers/llama2-like", {}),
    ("metaspace-first", "tokenizers/metaspace", {}),
    ("metaspace-always", "tokenizers/metaspace", {"pre_tokenizer": {"type": "Metaspace", "replacement": META, "prepend_scheme": "always", "split": True}}),
    ("metaspace-never", "tokenizers/metaspace", {"pre_tokenizer": {"type": "Metaspace", "replacement": META, "prepend_scheme": "never", "split": False},
                                                 "decoder": {"type": "Sequence", "decoders": [
                                                     {"type": "Replace", "pattern": {"String": META}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}}),
    ("metaspace-decoder", "tokenizers/metaspace", {"decoder": {"type": "Metaspace", "replacement": META, "prepend_scheme": "first", "split": True, "content": None,
                                                               "decoders": None}}),
    ("llama3-like", "tokenizers/llama3-like", {}),
    ("qwen2-like", "tokenizers/qwen2-like", {}),
    ("prefix-space", "tokenizers/llama3-like", {"post_processor": None,
                                                "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True, "pretokenizers": None}}),
    ("wordpiece", "tiny-bert", {"post_processor": None}),
]
WORDS = ("Say world the answer is Paris . , ! ? it's don't 1 12 3456 naïve 你好 🙂 \n \n\n \t x = y; (a) [b] HTTPServer snake_case Ünïcödé "
         "e\u0301 … — \u3000 Съешь ## end").split(" ")


def merge(target, patch):
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value
    return target


def random_text(rng: random.Random) -> str:
    out = "".join(rng.choice(["", " ", " ", " ", "  ", "\n"]) + rng.choice(WORDS) for _ in range(rng.randint(1, 5)))
    return out + rng.choice(["", "", "", " ", "\n"])


def main() -> None:
    written = []
    for name, folder, patch in KINDS:
        spec = merge(json.loads((DATA / folder / "tokenizer.json").read_text()), patch)
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        rng = random.Random(name)
        size = tokenizer.get_vocab_size()
        answers, scores = [], []
        while len(answers) < 60:
            prompt = rng.choice(["", random_text(rng), random_text(rng), random_text(rng)])
            prompt_ids = tokenizer.encode(prompt).ids
            if rng.random() < 0.5:
                ids = tokenizer.encode(random_text(rng), add_special_tokens=False).ids
            else:
                ids = [rng.randrange(size) for _ in range(rng.randint(1, 8))]
            before, whole = tokenizer.decode(prompt_ids), tokenizer.decode(prompt_ids + ids)
            if not whole.startswith(before) or "\ufffd" in whole:
                continue
            answers.append([prompt, prompt_ids, ids, whole[len(before):]])
        for _ in range(400):
            prompt, text = random_text(rng), random_text(rng)
            prompt_ids, whole = tokenizer.encode(prompt).ids, tokenizer.encode(prompt + text).ids
            if whole[:len(prompt_ids)] == prompt_ids and len(whole) > len(prompt_ids) and len(scores) < 60:
                scores.append([prompt, prompt_ids, text, whole[len(prompt_ids):]])
        written.append({"name": name, "folder": folder, "patch": patch, "answers": answers, "scores": scores})
        print(f"{name}: {len(answers)} answers, {len(scores)} scores")
    lines = []
    for kind in written:
        rows = [f'"{k}":{json.dumps(kind[k], ensure_ascii=True, separators=(",", ":"))}' for k in ("name", "folder", "patch", "answers", "scores")]
        lines.append("{" + ",\n".join(rows) + "}")
    (HERE / "seams.json").write_text("[" + ",\n".join(lines) + "]\n")


if __name__ == "__main__":
    main()
