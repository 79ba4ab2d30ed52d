"""Writes peft.json: adapter_config.json texts as PEFT saves them, and the modules, ranks and scales PEFT makes of them.

Run: python tests/golden/make_peft.py
"""

import json
import pathlib
import tempfile

import peft
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

BASE = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=12, num_attention_heads=2, num_key_value_heads=1,
            head_dim=4, vocab_size=16, max_position_embeddings=64)

CASES = {
    "list": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "defaults": dict(target_modules=["o_proj"]),
    "all-linear": dict(r=2, lora_alpha=16, target_modules="all-linear"),
    "rslora": dict(r=3, lora_alpha=5, use_rslora=True, target_modules=["gate_proj"]),
    "regex": dict(r=4, lora_alpha=4, target_modules=r".*\.layers\.(1|11)\.(self_attn\.[qk]_proj|mlp\.down_proj)"),
    "full names": dict(r=4, lora_alpha=4, target_modules=["model.layers.1.mlp.up_proj", "layers.2.mlp.up_proj",
                                                          "self_attn.k_proj"]),
    "exclude list": dict(r=4, lora_alpha=4, target_modules="all-linear", exclude_modules=["down_proj", "1.mlp.up_proj"]),
    "exclude regex": dict(r=4, lora_alpha=4, target_modules=["q_proj"], exclude_modules=r".*layers\.1\d?\..*"),
    "layers": dict(r=4, lora_alpha=4, target_modules=["q_proj", "model.layers.3.mlp.up_proj"],
                   layers_to_transform=[0, 11]),
    "one layer with pattern": dict(r=4, lora_alpha=4, target_modules=["q_proj"], layers_to_transform=5,
                                   layers_pattern="layers"),
    "patterns in order": dict(r=4, lora_alpha=4, target_modules=["q_proj", "k_proj", "v_proj"],
                              rank_pattern={r"layers\.1\d\.self_attn\.q_proj": 7, "q_proj": 2, "layers.3.self_attn.k_proj": 5},
                              alpha_pattern={"1.self_attn.q_proj": 3, "^model.layers.0.*v_proj": 9, "k_pro": 99,
                                             "self.attn.k_proj": 11}),
}


def main() -> None:
    cases = []
    for name, fields in CASES.items():
        config = LoraConfig(task_type="CAUSAL_LM", **fields)
        model = get_peft_model(LlamaForCausalLM(LlamaConfig(**BASE)), config)
        modules = {}
        for module_name, module in model.base_model.model.named_modules():
            if isinstance(module, LoraLayer):
                modules[module_name] = [module.r["default"], module.scaling["default"]]
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            text = pathlib.Path(folder, "adapter_config.json").read_text()
        cases.append({"name": name, "config": text, "modules": dict(sorted(modules.items()))})
    out = {"peft": peft.__version__, "base": BASE, "cases": cases}
    pathlib.Path(__file__).with_name("peft.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
