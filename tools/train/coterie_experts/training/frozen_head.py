"""Cross entropy behind a frozen output head, a few rows at a time.

The whole [n_rows, vocabulary] of logits, its float32 copy and its gradient are hundreds of megabytes for one batch: writing
them to memory fresh at every step took a quarter of it. The head has no gradient of its own, so that a block's logits can
become the gradient of its rows at once, and the same block of memory serves the next.
"""

from __future__ import annotations

import torch

_ROWS = 128  # of one block: 25 MB of float32 logits over 49,152 words


class _FrozenHeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        n_rows, n_words = len(hidden), len(weight)
        gradient = torch.empty_like(hidden)
        raw = torch.empty(min(_ROWS, n_rows), n_words, dtype=weight.dtype, device=hidden.device)
        full = torch.empty_like(raw, dtype=torch.float32)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, n_rows, _ROWS):
            rows, words = hidden[start:start + _ROWS], targets[start:start + _ROWS, None]
            logits, narrow = full[:len(rows)], raw[:len(rows)]  # [rows, n_words]
            torch.mm(rows.to(weight.dtype), weight.T, out=narrow)
            logits.copy_(narrow)
            logits.sub_(logits.amax(dim=1, keepdim=True))
            right = logits.gather(1, words)
            total = logits.exp_().sum(dim=1, keepdim=True)
            loss += (total.log() - right).sum()
            logits.div_(total)  # probabilities…
            logits.scatter_add_(1, words, torch.full_like(words, -1, dtype=torch.float32))  # …less the one that was right
            narrow.copy_(logits)
            gradient[start:start + _ROWS] = (narrow @ weight).to(gradient.dtype)
        ctx.save_for_backward(gradient / n_rows)
        return loss / n_rows

    @staticmethod
    def backward(ctx, upstream: torch.Tensor):
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None


def frozen_head_loss(hidden: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy in nats of `targets` [n_rows] under hidden [n_rows, d_model] times weight [vocabulary, d_model], transposed."""
    return _FrozenHeadLoss.apply(hidden, targets, weight)
