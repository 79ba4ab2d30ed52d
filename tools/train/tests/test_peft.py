"""What needs torch: real adapters over a small base. Skipped, aloud, where it is not installed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import unittest

from hand_made import write_run
from support import MODEL, Folder

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "peft", "transformers", "tokenizers", "gguf"))


@unittest.skipUnless(HAS_TORCH, "torch, peft, transformers, tokenizers or gguf is not installed: PEFT trainings are not tested")
class PeftTest(Folder):
    def words(self, *more):
        return ["train", str(self.run_folder), "--model", str(MODEL), "--tokens-per-expert", "1500", "--batch-tokens", "300",
                "--checkpoint-steps", "1", "--index", "0", *more]

    def setUp(self):
        super().setUp()
        self.run_folder = write_run(self.path, 3)

    def adapter(self, name: str) -> bytes:
        return (self.run_folder / f"sets/{name}/field-0/adapter_model.safetensors").read_bytes()

    def test_a_killed_training_ends_in_the_same_bytes_and_the_loss_falls(self):
        self.command(*self.words("--set", "whole"))
        child = subprocess.Popen([sys.executable, "-m", "coterie_experts", *self.words()], env=self.environment(), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while child.poll() is None and not list(self.run_folder.glob("sets/experts/work/*.checkpoint")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        self.assertIn("taken up again at step", self.command(*self.words()).stderr)
        self.assertEqual(self.adapter("experts"), self.adapter("whole"))

    def test_upper_layers_and_chosen_modules_are_all_that_is_adapted(self):
        self.command(*self.words("--layers", "upper:1", "--modules", "q_proj,v_proj", "--rank", "2"))
        config = json.loads((self.run_folder / "sets/experts/field-0/adapter_config.json").read_text())
        self.assertEqual(config["layers_to_transform"], [json.loads((MODEL / "config.json").read_text())["num_hidden_layers"] - 1])
        self.assertEqual((config["target_modules"], config["r"]), (["q_proj", "v_proj"], 2))

    def test_more_layers_than_the_base_has_are_refused(self):
        self.assertRegex(self.refused(*self.words("--layers", "upper:99")), r"--layers upper:99: the base has \d+ layers")

    def test_the_loss_behind_the_frozen_head_is_cross_entropy_with_its_gradient(self):
        import torch
        from coterie_experts.training.frozen_head import frozen_head_loss
        torch.manual_seed(7)
        for n_rows in (1, 128, 300):  # of blocks of 128
            hidden = torch.randn(n_rows, 24, requires_grad=True)
            weight, targets = torch.randn(501, 24), torch.randint(501, (n_rows,))
            plain = torch.nn.functional.cross_entropy(hidden.double() @ weight.double().T, targets)
            (wanted,) = torch.autograd.grad(plain, hidden)
            (found,) = torch.autograd.grad(loss := frozen_head_loss(hidden, targets, weight), hidden)
            torch.testing.assert_close(loss, plain.float())
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    unittest.main()
