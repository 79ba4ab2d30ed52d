"""Run by the interpreter that has openvino_genai: measures one model file once and prints one JSON object.

  PYTHON openvino_measure.py MODEL.gguf THREADS

Decoding is timed between the first token and the last, so that the prompts' time is not in it."""

import json
import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai


def main():
    model, threads = sys.argv[1], int(sys.argv[2])
    begin = time.monotonic()
    pipeline = genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads)
    figures = {"load_seconds": time.monotonic() - begin}
    draw = np.random.default_rng(1)

    def generate(n_prompts, n_prompt_tokens, n_new_tokens):
        """Wall seconds, and milliseconds to the first token."""
        ids = draw.integers(1000, 40000, (n_prompts, n_prompt_tokens), dtype=np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        config = genai.GenerationConfig(max_new_tokens=n_new_tokens, min_new_tokens=n_new_tokens, ignore_eos=True, do_sample=False)
        start = time.monotonic()
        result = pipeline.generate(inputs, config)
        return time.monotonic() - start, result.perf_metrics.get_ttft().mean / 1e3

    generate(1, 64, 4)
    for name, n, length in (("prefill_512", 1, 512), ("prefill_16x128", 16, 128)):
        generate(n, length, 1)  # a new shape costs once
        figures[f"{name}_tokens_per_second"] = n * length / generate(n, length, 1)[0]
    for n in (1, 4, 8, 16):
        steps = 33
        generate(n, 64, 2)
        wall, first = generate(n, 64, steps)
        figures[f"decode_b{n}_tokens_per_second"] = n * (steps - 1) / (wall - first)
    wall, first = generate(16, 128, 64)
    figures["sixteen_base_in_process"] = {"completion_tokens_per_second": 16 * 64 / wall, "first_token_median_seconds": first}
    print(json.dumps(figures))


main()
