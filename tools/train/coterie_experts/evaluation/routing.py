"""How the product itself routes the samples, and what that costs before the first token."""

from __future__ import annotations

import statistics

import grpc
import numpy as np

from coterie_experts.errors import Refused
from coterie_experts.evaluation.samples import Sample
from coterie_experts.product.gateway import Gateway
from coterie_experts.progress import bar


def routed(gateway: Gateway, experts: list[str], samples: list[Sample], policy: str = "") -> tuple[np.ndarray, list[float]]:
    """(weights [n_samples, n_experts + 1], seconds of embedding and search of each), by Route; the base is the last column."""
    weights, seconds = np.zeros((len(samples), len(experts) + 1)), []
    make = gateway.protocol.RouteRequest
    for row, sample in zip(weights, bar(samples, what="routing", unit="text")):
        request = make(prompt=sample.prompt, expert="auto", routing={"allowed_experts": experts, "policy": policy})
        decision = gateway.call("GenerationService.Route", request).decision
        seconds.append(decision.embed_seconds + decision.search_seconds)
        for expert in decision.experts:
            row[experts.index(expert.name)] = expert.weight
        if not decision.experts:
            row[-1] = 1
        row /= row.sum()
    return weights, seconds


def cosines(gateway: Gateway, experts: list[str], samples: list[Sample]) -> np.ndarray:
    """[n_samples, n_experts]: each expert's score as the product weighs it; -1 for one that is not among its candidates."""
    scores = np.full((len(samples), len(experts)), -1.0)
    for row, sample in zip(scores, bar(samples, what="routing", unit="text")):
        request = gateway.protocol.RouteRequest(prompt=sample.prompt, expert="auto", routing={"allowed_experts": experts})
        for candidate in gateway.call("GenerationService.Route", request).decision.candidates:
            row[experts.index(candidate.name)] = candidate.score
    return scores


def share_of_first_token(gateway: Gateway, experts: list[str], prompts: list[str]) -> dict:
    """Medians over `prompts`, one after the other: routing's part of the time to the first token."""
    make, shares, first, tokens = gateway.protocol.GenerateRequest, [], [], []
    try:
        for prompt in bar(prompts, what="first tokens", unit="text"):
            request = make(prompt=prompt, expert="auto", sampling={"max_tokens": 1, "ignore_eos": True}, routing={"allowed_experts": experts})
            for event in gateway.call("GenerationService.Generate", request):
                if event.WhichOneof("event") == "route":
                    routing = event.route.embed_seconds + event.route.search_seconds
                elif event.WhichOneof("event") == "finish":
                    timings, usage = event.finish.timings, event.finish.usage
            shares.append(routing / timings.first_token_seconds)
            first.append(timings.first_token_seconds)
            tokens.append(usage.prompt_tokens)
    except grpc.RpcError as error:
        raise Refused(f"Generate at {gateway.address}: {error.code().name}: {error.details()}") from error
    return {"routing_share": statistics.median(shares), "first_token_seconds": statistics.median(first),
            "prompt_tokens": statistics.median(tokens), "prompts": len(prompts)}
