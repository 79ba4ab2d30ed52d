"""LoRA with PEFT over the frozen base, in bfloat16; on the GPU where torch sees one."""

from __future__ import annotations

import io
import json
import os
import pathlib

os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bars while it loads would hide our own lines in a log

import peft  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from coterie_experts.errors import Refused  # noqa: E402
from coterie_experts.product import binaries  # noqa: E402
from coterie_experts.training import base_model  # noqa: E402
from coterie_experts.training.frozen_head import frozen_head_loss  # noqa: E402
from coterie_experts.training.settings import Settings  # noqa: E402

_IGNORED = -100  # label of a position that does not count


def collate(batch: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, labels), each [n_examples, longest]; labels are shifted to predict the next token.

    Padding is on the right, where causal attention keeps it from every counted position: no mask is needed.
    """
    longest = max(map(len, batch))
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), _IGNORED)
    for row, example in enumerate(batch):
        ids[row, :len(example)] = torch.tensor(example)
        labels[row, :len(example) - 1] = torch.tensor(example[1:])
    return ids, labels


class PeftLearner:
    """See learner.Learner."""

    def __init__(self, model: pathlib.Path, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self._settings, self._base_name = settings, binaries.base_name(model.resolve().name)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = base_model.load_tokenizer(model)
        # On a CPU torch's fused attention works through its backward pass slowly: the plain one takes a fifth off a step.
        attention = "sdpa" if self._device.type == "cuda" else "eager"
        base = base_model.load_model(model, torch.bfloat16, attention).to(self._device)
        self._model = peft.get_peft_model(base, self._config(base.config.num_hidden_layers), autocast_adapter_dtype=True)
        self._weights = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=settings.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
        self._model.train()

    def _config(self, n_layers: int) -> peft.LoraConfig:
        upper, chosen = self._settings.upper_layers(), {}
        if upper is not None:
            if upper > n_layers:
                raise Refused(f"--layers upper:{upper}: the base has {n_layers} layers")
            chosen = {"layers_to_transform": list(range(n_layers - upper, n_layers)), "layers_pattern": "layers"}
        return peft.LoraConfig(task_type="CAUSAL_LM", r=self._settings.rank, lora_alpha=self._settings.alpha, lora_dropout=0.0,
                               bias="none", target_modules=self._settings.module_names(), **chosen)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def step(self, batch: list[tuple[int, ...]], rate: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        ids, labels = (t.to(self._device) for t in collate(batch))
        causal = self._model.get_base_model()
        with torch.autocast(self._device.type, torch.bfloat16):
            hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state  # [n_examples, longest, d_model]
            counted = labels != _IGNORED
        loss = frozen_head_loss(hidden[counted], labels[counted], causal.lm_head.weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights.values(), self._settings.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def state(self) -> bytes:
        out = io.BytesIO()
        torch.save({"weights": {n: p.detach() for n, p in self._weights.items()}, "optimizer": self._optimizer.state_dict()}, out)
        return out.getvalue()

    def restore(self, state: bytes) -> None:
        saved = torch.load(io.BytesIO(state), weights_only=True, map_location=self._device)
        with torch.no_grad():
            for name, parameter in self._weights.items():
                parameter.copy_(saved["weights"][name])
        self._optimizer.load_state_dict(saved["optimizer"])

    def save_adapter(self, folder: pathlib.Path) -> None:
        """PEFT's own two files: weights in bfloat16, a configuration without this machine's paths, keys in a fixed order."""
        weights = {name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
                   for name, tensor in sorted(peft.get_peft_model_state_dict(self._model).items())}
        save_file(weights, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
        config = self._model.peft_config["default"].to_dict()
        config.update(base_model_name_or_path=self._base_name, inference_mode=True, revision=None)
        config = {k: sorted(v) if isinstance(v, set) else getattr(v, "value", v) for k, v in config.items()}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
