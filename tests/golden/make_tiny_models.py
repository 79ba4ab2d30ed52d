#!/usr/bin/env python3
"""Tiny random models, adapters and an encoder: whole files of every format, small enough to commit.

Writes under tests/data:
  tiny-llama/    HF folder, bfloat16, untied head, 3 layers, d 64, 4 heads of 16, 2 KV heads; config in the older style
  tiny-qwen2/    HF folder in two shards, float32, tied head, biases on q, k, v; 3 heads of 16, 1 KV head
  tiny-qwen3/    HF folder, float16, norms on q and k, head_dim 32 (not d / heads); config in transformers 5 style
  tiny-llama-rope-{linear,dynamic,llama3,yarn}/config.json   the same weights with RoPE scaling (config only)
  tiny-llama-windows/, tiny-qwen3-windows/config.json   the same weights with sliding windows (config only): in every
                 layer, as Mistral has them; in some, by layer_types
  tiny-phi3/     HF folder, bfloat16, Q, K, V and gate, up fused, 12 of 16 values of a head rotate, LongRoPE from 64 to
                 256 tokens, a window of 100; config as Phi-4-mini's
  tiny-gemma3/   HF folder, bfloat16, four norms a layer, head_dim 32, windows of 20 with a RoPE theta of their own in
                 two of three layers
  tiny-gemma3-scaled/config.json   the same weights, scores divided otherwise, linear RoPE scaling in the third layer
  tiny-{llama,qwen2,qwen3,phi3,gemma3}.gguf   the same weights as GGUF (BF16, F32, F16, BF16, BF16); Q and K of llama
                 permuted and norms of gemma3 raised by one, as converters do
  tiny-llama-q.gguf               the llama with Q4_1 matrices and Q8_0 embeddings (quantised, so another model)
  tiny-adapters/<base>-<what>/    PEFT adapters with random A and B, neither zero
  tiny-bert/                      BERT-like encoder with WordPiece, laid out as sentence-transformers does

Weights come from fixed seeds and are scaled so that logits spread (a deviation of about 2) and attention is not flat.
"""

from __future__ import annotations

import json
import math
import pathlib
import shutil
import warnings

import gguf
import numpy as np
import peft
import tokenizers
import torch
import transformers

from golden_io import DATA
from make_tokens import LLAMA3, SENTENCES

warnings.filterwarnings("ignore")
CHAT_TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(LLAMA3), behavior="isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(SENTENCES, tokenizers.trainers.BpeTrainer(
        vocab_size=384, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())))
    return tokenizer


def randomise(model, seed: int, head_gain: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 0.3 * noise if model.config.model_type == "gemma3_text" else 1 + 0.3 * noise  # Gemma's: less one
        elif name.endswith("bias"):
            value = 0.5 * noise
        elif "embed_tokens" in name:
            value = noise * (head_gain / parameter.shape[1] ** 0.5 if model.config.tie_word_embeddings else 0.7)
        else:
            gain = {"q_proj": 1.6, "k_proj": 1.6, "qkv_proj": 1.4, "lm_head": head_gain}.get(name.split(".")[-2], 1.0)
            value = noise * gain / parameter.shape[1] ** 0.5
        with torch.no_grad():
            parameter.copy_(value)


def write_folder(model, folder: pathlib.Path, tokenizer, dtype: torch.dtype, old_style: bool, shards: int = 1) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=size if shards == 1 else int(size / shards * 1.15))
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    if old_style:  # as files before transformers 5 write it
        rope = config.pop("rope_parameters")
        config.update(rope_theta=rope["rope_theta"], rope_scaling=None, torch_dtype=config.pop("dtype"))
        if rope["rope_type"] == "longrope":
            config["rope_scaling"] = {"type": "longrope", "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}
            config["partial_rotary_factor"] = rope["partial_rotary_factor"]
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHAT_TEMPLATE,
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "model_max_length": 256}, indent=2) + "\n")


def permute(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Row order of the llama converters: (i, i + head_dim/2) become neighbours."""
    rows = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)


GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
GGUF_NAMES_OF = {  # beside or instead of these
    "phi3": {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"},
    "gemma3": {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"},
}
GGUF_TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def write_gguf(model, path: pathlib.Path, architecture: str, tokenizer, matrix_type, embedding_type=None) -> dict[str, torch.Tensor]:
    """Returns the weights as the file holds them (dequantised, HF row order), which for quantised types differ from the model's."""
    config = model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(path.stem)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if architecture == "llama":
        writer.add_rope_dimension_count(head_dim)
    if architecture == "qwen3":
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture == "phi3":
        rope = config.rope_parameters
        scale, original = config.max_position_embeddings / config.original_max_position_embeddings, config.original_max_position_embeddings
        writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * head_dim))
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        writer.add_sliding_window(config.sliding_window)
        for kind in ("short", "long"):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(rope[f"{kind}_factor"], dtype=np.float32))
    if architecture == "gemma3":
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_sliding_window(config.sliding_window)
        writer.add_uint32("gemma3.attention.sliding_window_pattern", 3)
        writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    else:
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    spec = json.loads(tokenizer.to_str())
    tokens = [t for t, _ in sorted(spec["model"]["vocab"].items(), key=lambda kv: kv[1])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(m) for m in spec["model"]["merges"]])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    held = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = tensor.float().numpy()
        if name in GGUF_TOP:
            target = GGUF_TOP[name]
        else:
            _, _, layer, *rest, kind = name.split(".")
            own = GGUF_NAMES | GGUF_NAMES_OF.get(architecture, {})
            target = f"blk.{layer}.{own['.'.join(rest)]}.{kind}"
        if architecture == "gemma3" and "norm" in name:
            weight = weight + 1
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2]) if architecture == "llama" else None
        stored = permute(weight, heads) if heads else weight
        if weight.ndim == 1:
            kind = gguf.GGMLQuantizationType.F32  # norms and biases, as converters store them
        else:
            kind = embedding_type if embedding_type and target == "token_embd.weight" else matrix_type
        packed = gguf.quants.quantize(stored, kind)
        writer.add_tensor(target, packed, raw_dtype=kind)
        back = gguf.quants.dequantize(packed, kind).reshape(stored.shape)
        if heads:  # undo
            rows = back.reshape(heads, back.shape[0] // heads // 2, 2, *back.shape[1:])
            back = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)
        held[name] = torch.from_numpy(np.array(back, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def tiny_llama(vocab_size: int, rope: dict | None = None):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=None, eos_token_id=2, pad_token_id=0,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"} | (rope or {})))


ROPE_VARIANTS = {  # (fields, written in the style of transformers 5)
    "linear": ({"rope_type": "linear", "factor": 4.0}, False),
    "dynamic": ({"rope_type": "dynamic", "factor": 2.0}, False),
    "llama3": ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}, False),
    "yarn": ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, True),
}


CONFIG_VARIANTS = {  # name: (whose weights, fields)
    "tiny-llama-windows": ("tiny-llama", dict(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=24)),
    "tiny-qwen3-windows": ("tiny-qwen3", dict(use_sliding_window=True, sliding_window=70,
                                              layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "tiny-gemma3-scaled": ("tiny-gemma3", dict(query_pre_attn_scalar=20, rope_parameters={
        "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000000.0}})),
}


def make_bases() -> None:
    tokenizer = make_tokenizer()
    vocab = tokenizer.get_vocab_size()
    kinds = gguf.GGMLQuantizationType

    llama = tiny_llama(vocab)
    randomise(llama, 1, head_gain=2.0)
    write_folder(llama, DATA / "tiny-llama", tokenizer, torch.bfloat16, old_style=True)
    write_gguf(llama, DATA / "tiny-llama.gguf", "llama", tokenizer, kinds.BF16)
    write_gguf(llama, DATA / "tiny-llama-q.gguf", "llama", tokenizer, kinds.Q4_1, embedding_type=kinds.Q8_0)
    for name, (fields, new_style) in ROPE_VARIANTS.items():
        config = json.loads((DATA / "tiny-llama/config.json").read_text())
        if new_style:
            config.pop("rope_scaling")
            config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), **fields}
        else:
            config["rope_scaling"] = fields
        folder = DATA / f"tiny-llama-rope-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    qwen2 = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
        vocab_size=vocab, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
        max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=None, eos_token_id=2, pad_token_id=0,
        rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}))
    randomise(qwen2, 2, head_gain=2.0)
    write_folder(qwen2, DATA / "tiny-qwen2", tokenizer, torch.float32, old_style=True, shards=2)
    write_gguf(qwen2, DATA / "tiny-qwen2.gguf", "qwen2", tokenizer, kinds.F32)

    qwen3 = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(
        vocab_size=vocab, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=None, eos_token_id=2, pad_token_id=0,
        rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}))
    randomise(qwen3, 3, head_gain=2.0)
    write_folder(qwen3, DATA / "tiny-qwen3", tokenizer, torch.float16, old_style=False)
    write_gguf(qwen3, DATA / "tiny-qwen3.gguf", "qwen3", tokenizer, kinds.F16)

    phi3 = transformers.Phi3ForCausalLM(transformers.Phi3Config(
        vocab_size=vocab, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, original_max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=2, pad_token_id=0, sliding_window=100,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "longrope", "partial_rotary_factor": 0.75,
                         "short_factor": [1.0, 1.02, 1.1, 1.2, 1.3, 1.5], "long_factor": [1.05, 1.2, 1.7, 2.6, 4.2, 6.5]}))
    randomise(phi3, 4, head_gain=2.0)
    write_folder(phi3, DATA / "tiny-phi3", tokenizer, torch.bfloat16, old_style=True)
    write_gguf(phi3, DATA / "tiny-phi3.gguf", "phi3", tokenizer, kinds.BF16)

    gemma3 = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(
        vocab_size=vocab, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=None, eos_token_id=2, pad_token_id=0,
        query_pre_attn_scalar=32, sliding_window=20, sliding_window_pattern=3))
    randomise(gemma3, 5, head_gain=2.0)
    write_folder(gemma3, DATA / "tiny-gemma3", tokenizer, torch.bfloat16, old_style=False)
    write_gguf(gemma3, DATA / "tiny-gemma3.gguf", "gemma3", tokenizer, kinds.BF16)
    for name, (weights_of, fields) in CONFIG_VARIANTS.items():
        config = json.loads((DATA / weights_of / "config.json").read_text()) | fields
        (DATA / name).mkdir(exist_ok=True)
        (DATA / name / "config.json").write_text(json.dumps(config, indent=2) + "\n")


ADAPTERS = {  # name: (base, LoraConfig fields, dtype)
    "llama-qv": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]), torch.float32),
    "llama-all-linear": ("tiny-llama", dict(r=8, lora_alpha=16, target_modules="all-linear"), torch.bfloat16),
    "llama-rslora": ("tiny-llama", dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["k_proj", "o_proj", "down_proj"]), torch.float16),
    "llama-patterns": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj", "down_proj"],
                                          rank_pattern={"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 6},
                                          alpha_pattern={"up_proj": 2, r"layers\.[12]\..*q_proj": 12}), torch.float32),
    "llama-top-layers": ("tiny-llama", dict(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "gate_proj"],
                                            layers_to_transform=[1, 2], layers_pattern="layers"), torch.float32),
    "llama-regex": ("tiny-llama", dict(r=3, lora_alpha=6, target_modules=r".*\.(0|2)\.(self_attn\.[qo]_proj|mlp\.up_proj)"), torch.float32),
    "llama-exclude": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=["gate_proj", "o_proj"]), torch.float32),
    "qwen2-all-linear": ("tiny-qwen2", dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.bfloat16),
    "qwen3-all-linear": ("tiny-qwen3", dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.bfloat16),
    "phi3-all-linear": ("tiny-phi3", dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.bfloat16),
    "phi3-fused": ("tiny-phi3", dict(r=6, lora_alpha=8, target_modules=["qkv_proj", "gate_up_proj"],
                                     rank_pattern={"gate_up_proj": 3}), torch.float32),
    "gemma3-all-linear": ("tiny-gemma3", dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.bfloat16),
    "llama-high-rank": ("tiny-llama", dict(r=1024, lora_alpha=512, target_modules=["v_proj"], layers_to_transform=[1]), torch.float16),
}


def make_adapters() -> None:
    from safetensors.torch import save_file

    for seed, (name, (base, fields, dtype)) in enumerate(ADAPTERS.items(), start=100):
        model = transformers.AutoModelForCausalLM.from_pretrained(DATA / base, dtype=torch.float32)
        model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **fields))
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for key, tensor in sorted(peft.get_peft_model_state_dict(model).items()):
            fan_in = tensor.shape[1]
            weights[key] = (torch.randn(tensor.shape, generator=generator) * 0.6 / fan_in ** 0.5).to(dtype)
        folder = DATA / "tiny-adapters" / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
        config = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base, "inference_mode": True, "revision": None}
        config = {k: sorted(v) if isinstance(v, set) else getattr(v, "value", v) for k, v in config.items()}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_encoder() -> None:
    folder = DATA / "tiny-bert"
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator([s for s in SENTENCES if s.isascii()], tokenizers.trainers.WordPieceTrainer(
        vocab_size=320, special_tokens=specials, show_progress=False))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = tokenizers.decoders.WordPiece(prefix="##")
    config = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=64, max_position_embeddings=64, layer_norm_eps=1e-12, pad_token_id=0)
    model = transformers.BertModel(config, add_pooling_layer=False)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise if "embeddings" in name else noise * 1.3 / parameter.shape[1] ** 0.5)
    model.save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    saved.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(saved, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n")
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda kv: kv[1])
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t, _ in vocab))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "do_lower_case": True, "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
        "tokenizer_class": "BertTokenizer", "model_max_length": 64}, indent=2) + "\n")
    (folder / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}], indent=2) + "\n")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48, "do_lower_case": False}, indent=2) + "\n")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({
        "word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False}, indent=2) + "\n")


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    make_bases()
    make_adapters()
    make_encoder()
    for entry in sorted(DATA.rglob("*")):
        if entry.is_file() and entry.stat().st_size > 100_000:
            print(f"{entry.relative_to(DATA)}: {entry.stat().st_size / 1e3:.0f} kB")
