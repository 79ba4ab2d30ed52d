"""The frozen base: weights, tokenizer and chat template out of one GGUF file, or a Hugging Face folder.

The tokenizer is built from the file's own vocabulary and merges. The one that transformers derives from the
file lacks the digit step of `tokenizer.ggml.pre = smollm`, so its ids differ from those the server feeds.
"""

from __future__ import annotations

import functools
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # the conversion's bar hides our own lines in a log

import gguf  # noqa: E402
import jinja2.ext  # noqa: E402
import jinja2.sandbox  # noqa: E402
import tokenizers  # noqa: E402

_CONTROL, _USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


@functools.lru_cache(maxsize=2)
def _gguf_fields(path: pathlib.Path) -> dict:
    reader = gguf.GGUFReader(str(path))
    wanted = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type", "tokenizer.ggml.pre",
              "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.chat_template")
    return {key: reader.fields[key].contents() for key in wanted if key in reader.fields}


def load_tokenizer(path: pathlib.Path) -> tokenizers.Tokenizer:
    if path.is_dir():
        return tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    fields = _gguf_fields(path)
    if fields.get("tokenizer.ggml.pre") != "smollm":
        raise ValueError(f"{path}: tokenizer.ggml.pre is {fields.get('tokenizer.ggml.pre')!r}, this recipe knows 'smollm'")
    tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"]]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges, fuse_unk=False))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Digits(individual_digits=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(tokens[i], special=True, normalized=False)
                                  for i, kind in enumerate(kinds) if kind in (_CONTROL, _USER_DEFINED)])
    return tokenizer


def chat_environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """The environment in which transformers renders chat templates (block trimming, loop controls)."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    return environment


def load_chat_renderer(path: pathlib.Path):
    """Returns render(messages, add_generation_prompt) -> text, with the file's own template."""
    fields = _gguf_fields(path)
    tokens = fields["tokenizer.ggml.tokens"]
    template = chat_environment().from_string(fields["tokenizer.chat_template"])

    def render(messages, add_generation_prompt=True):
        return template.render(messages=messages, add_generation_prompt=add_generation_prompt,
                               bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
                               eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]])

    return render


def load_model(path: pathlib.Path, dtype=None, attention: str = "sdpa"):
    """The base with its weights dequantised: float32 for references, bfloat16 for training.

    `attention` is transformers' `attn_implementation`.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    packed = {} if path.is_dir() else {"gguf_file": path.name, "quantization_config": transformers.GgufConfig(dequantize=True)}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(path if path.is_dir() else path.parent), dtype=torch.float32, attn_implementation=attention, **packed)
    model.to(dtype or torch.float32)
    model.requires_grad_(False)
    return model.eval()
