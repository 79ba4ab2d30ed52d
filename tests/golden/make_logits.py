#!/usr/bin/env python3
"""What transformers (and peft) answer in float32: logits of the tiny models, log-probabilities of the real base.

    make_logits.py tiny     tiny_logits.bin: the models of make_tiny_models.py, full rows
    make_logits.py base     base_logits.bin: >= 2,000 positions of the dequantised base, and base_greedy.json
    make_logits.py gemma    gemma3_greedy.json: greedy tokens of Gemma 3 270M (Q4_K_M, dequantised)
    make_logits.py experts  expert_logits.bin: >= 200 positions of each expert in experts/

Binary files are laid out as golden_io.py says.

tiny_logits.bin, for each case NAME: `NAME.ids` u16 [n_tokens], `NAME.rows` u16 [n_rows] (positions whose logits follow),
`NAME.logits` f32 [n_rows, vocab]. NAME is a model (tiny-llama, tiny-qwen2, tiny-qwen3, tiny-phi3, tiny-gemma3, tiny-llama-q:
that one only as GGUF), a longer text for one (tiny-phi3/long), a variant of its configuration (tiny-llama-rope-yarn, tiny-llama-windows), or an adapter (tiny-adapters/llama-qv, over the base that its
adapter_config.json names).

base_logits.bin and expert_logits.bin, for each text NAME (experts: <expert>/<text>): `NAME.ids` u16 [n_tokens],
`NAME.top_ids` u16 [n_tokens, k] with the most likely token first, `NAME.top_logprobs` f32 [n_tokens, k],
`NAME.tail_mass` f32 [n_tokens]: the probability of all other tokens together. k is 64 (experts: 32).

base_greedy.json and gemma3_greedy.json (with the "prompt" itself): [{"prompt_ids", "ids", "margins"}]: 64 greedy tokens (fewer where the answer ended) after a chat prompt,
and at each step the logit of the first less that of the second choice, so that a difference where the margin is within
rounding can be told from a fault.

Values of float32 matrix products differ in the last digits between machines: compare with a tolerance.
"""

from __future__ import annotations

import json
import pathlib
import sys
import warnings

import numpy as np
import torch
import transformers

from golden_io import DATA, HERE, ROOT, write_arrays
from coterie_experts.product import binaries
from coterie_experts.training import base_model
from texts import BASE_TEXTS, EXPERT_TEXTS, GREEDY_PROMPTS

warnings.filterwarnings("ignore")


@torch.no_grad()
def logits_of(model, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def tiny() -> None:
    from make_tiny_models import ADAPTERS, CONFIG_VARIANTS, ROPE_VARIANTS, make_tokenizer, tiny_llama, write_gguf
    import gguf
    import peft
    import tempfile

    rng = np.random.default_rng(11)
    arrays = {}

    def record(name, model, n_tokens, rows):
        ids = rng.integers(0, model.config.vocab_size, n_tokens)
        out = logits_of(model.eval(), ids.tolist())
        arrays[f"{name}.ids"] = ids.astype("<u2")
        arrays[f"{name}.rows"] = np.array(rows, dtype="<u2")
        arrays[f"{name}.logits"] = out[list(rows)].numpy().astype("<f4")
        top = out.max(-1).values
        print(f"  {name}: logits deviate by {out.std():.2f}, best {top.mean():.2f}, likeliest p {out.softmax(-1).max(-1).values.mean():.2f}")

    def load(folder):
        return transformers.AutoModelForCausalLM.from_pretrained(DATA / folder, dtype=torch.float32)

    for folder in ("tiny-llama", "tiny-qwen2", "tiny-qwen3"):
        record(folder, load(folder), 40, range(40))
    with tempfile.TemporaryDirectory() as scratch:
        llama = load("tiny-llama")
        held = write_gguf(llama, pathlib.Path(scratch) / "q.gguf", "llama", make_tokenizer(),
                          gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0)
        if (pathlib.Path(scratch) / "q.gguf").read_bytes()[-100_000:] != (DATA / "tiny-llama-q.gguf").read_bytes()[-100_000:]:
            raise SystemExit("tiny-llama-q.gguf is not what make_tiny_models.py makes now: run that first")
        llama.load_state_dict(held)
        record("tiny-llama-q", llama, 40, range(40))
    weights = load("tiny-llama").state_dict()
    for name, (fields, _) in ROPE_VARIANTS.items():
        model = tiny_llama(384, fields)
        model.load_state_dict(weights)
        record(f"tiny-llama-rope-{name}", model, 200, range(7, 200, 12))
    def record_adapters(bases):
        for name, (base, _, _) in ADAPTERS.items():
            if base in bases:
                record(f"tiny-adapters/{name}", peft.PeftModel.from_pretrained(load(base), str(DATA / "tiny-adapters" / name)), 24, range(0, 24, 2))

    record_adapters(("tiny-llama", "tiny-qwen2", "tiny-qwen3"))  # further bases come last: every case goes on with one random stream
    for name, (weights_of, _) in CONFIG_VARIANTS.items():
        config = transformers.AutoConfig.from_pretrained(DATA / name)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(load(weights_of).state_dict())
        record(name, model, 200, range(7, 200, 12))
    for folder in ("tiny-phi3", "tiny-gemma3"):
        record(folder, load(folder), 40, range(40))
        record(f"{folder}/long", load(folder), 200, range(7, 200, 12))
    record_adapters(("tiny-phi3", "tiny-gemma3"))
    write_arrays(HERE / "tiny_logits.bin", arrays)


def top_k(logits: torch.Tensor, k: int) -> dict[str, np.ndarray]:
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    values, ids = logprobs.topk(k, dim=-1)
    return {"top_ids": ids.numpy().astype("<u2"), "top_logprobs": values.numpy().astype("<f4"),
            "tail_mass": (1 - values.exp().sum(-1)).clamp(min=0).numpy().astype("<f4")}


class Real:
    """The dequantised base in float32 and its tokenizer."""

    def __init__(self):
        path = binaries.find_base()
        self.tokenizer = base_model.load_tokenizer(path)
        self.render = base_model.load_chat_renderer(path)
        self.model = base_model.load_model(path, torch.float32)

    def ids(self, text: str | list) -> list[int]:
        rendered = text if isinstance(text, str) else self.render(text, add_generation_prompt=text[-1]["role"] != "assistant")
        return self.tokenizer.encode(rendered, add_special_tokens=False).ids


def base() -> None:
    real = Real()
    arrays, n = {}, 0
    for name, text in BASE_TEXTS.items():
        ids = real.ids(text)
        arrays[f"{name}.ids"] = np.array(ids, dtype="<u2")
        arrays |= {f"{name}.{k}": v for k, v in top_k(logits_of(real.model, ids), 64).items()}
        n += len(ids)
    print(f"{n} positions")
    write_arrays(HERE / "base_logits.bin", arrays)
    greedy = []
    for prompt in GREEDY_PROMPTS:
        ids = real.ids([{"role": "user", "content": prompt}])
        greedy.append(continue_greedily(real.model, ids, 64, end=real.tokenizer.token_to_id("<|im_end|>")))
        print(f"  {prompt!r} -> {real.tokenizer.decode(greedy[-1]['ids'])[:70]!r}, least margin {min(greedy[-1]['margins']):.4f}", flush=True)
    rows = ",\n".join(json.dumps(g, separators=(",", ":")) for g in greedy)
    (HERE / "base_greedy.json").write_text(f"[{rows}]\n")


@torch.no_grad()
def continue_greedily(model, prompt: list[int], n_tokens: int, end: int) -> dict:
    ids, margins, cache, feed = [], [], None, prompt
    for _ in range(n_tokens):
        out = model(input_ids=torch.tensor([feed]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = out.logits[0, -1].double().topk(2)
        margins.append(round(float(best.values[0] - best.values[1]), 5))
        ids.append(int(best.indices[0]))
        feed = ids[-1:]
        if ids[-1] == end:
            break
    return {"prompt_ids": prompt, "ids": ids, "margins": margins}


def gemma() -> None:
    """The file lies beside the base; README.md says where it comes from."""
    name = "gemma-3-270m-q4_k_m.gguf"
    folder = str(binaries.models_folder())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32,
                                                              quantization_config=transformers.GgufConfig(dequantize=True)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    plain = [text for text in BASE_TEXTS.values() if isinstance(text, str)]
    prompts = ["The capital of France is", "Once upon a time, in a village by the sea,", "def fibonacci(n):\n    ",
               "Die Hauptstadt von Deutschland ist", "\n\n".join(plain)[:4000]]  # the last one is longer than the window of 512
    greedy = []
    for prompt in prompts:
        ids = tokenizer(prompt).input_ids
        greedy.append({"prompt": prompt} | continue_greedily(model, ids, 40, end=tokenizer.eos_token_id))
        print(f"  {len(ids)} tokens -> {tokenizer.decode(greedy[-1]['ids'])[:100]!r}, least margin {min(greedy[-1]['margins']):.4f}", flush=True)
    rows = ",\n".join(json.dumps(g, separators=(",", ":")) for g in greedy)
    (HERE / "gemma3_greedy.json").write_text(f"[{rows}]\n")


def experts() -> None:
    import peft

    real = Real()
    arrays = {}
    for folder in sorted((ROOT / "experts").iterdir()):
        if not (folder / "adapter_config.json").exists():
            continue
        model = peft.PeftModel.from_pretrained(real.model, str(folder)).eval()
        for name, text in EXPERT_TEXTS[folder.name].items():
            ids = real.ids(text)
            key = f"{folder.name}/{name}"
            with torch.no_grad():
                out = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
            arrays[f"{key}.ids"] = np.array(ids, dtype="<u2")
            arrays |= {f"{key}.{k}": v for k, v in top_k(out, 32).items()}
        real.model = model.unload()
        total = sum(len(v) for k, v in arrays.items() if k.startswith(folder.name + "/") and k.endswith(".ids"))
        print(f"  {folder.name}: {total} positions")
        if total < 200:
            raise SystemExit(f"{folder.name} has {total} positions; 200 are wanted: add to texts.py")
    write_arrays(HERE / "expert_logits.bin", arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)  # a machine that builds and trains beside this starves spinning threads
    parts = {"tiny": tiny, "base": base, "gemma": gemma, "experts": experts}
    chosen = sys.argv[1:] or list(parts)
    for part in chosen:
        if part not in parts:
            sys.exit(f"make_logits: no such part {part!r}; there are {', '.join(parts)}")
        parts[part]()
