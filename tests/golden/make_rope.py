"""Writes rope.json: config.json texts as transformers saves them, and the rotary frequencies it computes from them.

Run: python tests/golden/make_rope.py
"""

import json
import pathlib

import transformers
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

SIZES = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=1000)

CASES = {
    "llama plain": LlamaConfig(**SIZES, max_position_embeddings=2048),
    "llama theta": LlamaConfig(**SIZES, max_position_embeddings=8192,
                               rope_parameters={"rope_type": "default", "rope_theta": 100000.0}),
    "llama linear": LlamaConfig(**SIZES, max_position_embeddings=8192,
                                rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
    "llama dynamic": LlamaConfig(**SIZES, max_position_embeddings=4096,
                                 rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
    "llama3": LlamaConfig(**SIZES, max_position_embeddings=131072,
                          rope_parameters={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                                           "rope_theta": 500000.0}),
    "llama yarn": LlamaConfig(**SIZES, max_position_embeddings=65536,
                              rope_parameters={"rope_type": "yarn", "factor": 16.0, "rope_theta": 10000.0,
                                               "original_max_position_embeddings": 4096}),
    "yarn with every field": LlamaConfig(**SIZES, max_position_embeddings=65536,
                                         rope_parameters={"rope_type": "yarn", "factor": 16.0, "rope_theta": 10000.0,
                                                          "original_max_position_embeddings": 4096, "beta_fast": 24.0,
                                                          "beta_slow": 2.0, "mscale": 0.8, "mscale_all_dim": 1.2,
                                                          "truncate": False}),
    "yarn attention factor": LlamaConfig(**SIZES, max_position_embeddings=65536,
                                         rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
                                                          "original_max_position_embeddings": 16384,
                                                          "attention_factor": 1.25}),
    "mistral": MistralConfig(**SIZES, head_dim=96, max_position_embeddings=32768, sliding_window=None,
                             rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
    "qwen2": Qwen2Config(**SIZES, max_position_embeddings=32768,
                         rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
    "qwen3": Qwen3Config(**SIZES, head_dim=128, max_position_embeddings=40960,
                         rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1000000.0,
                                          "original_max_position_embeddings": 32768}),
}


def main() -> None:
    cases = []
    for name, config in CASES.items():
        config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
        kind = config.rope_parameters["rope_type"]
        if kind == "default":
            inverse, attention = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
        else:
            inverse, attention = ROPE_INIT_FUNCTIONS[kind](config)
        cases.append({"name": name, "config": config.to_json_string(use_diff=True),
                      "inverse_frequencies": [float(v) for v in inverse], "attention_factor": float(attention)})
    out = {"transformers": transformers.__version__, "cases": cases}
    pathlib.Path(__file__).with_name("rope.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
