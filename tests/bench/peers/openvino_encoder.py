"""Run by the interpreter that has openvino: times one call of a sentence encoder in OpenVINO's own format.

  PYTHON openvino_encoder.py MODEL.xml     inputs input_ids and attention_mask [texts, tokens]

One thread, one text, in the precision OpenVINO itself chooses on this machine; the tokeniser is not included."""

import json
import statistics
import sys
import time

import numpy as np
import openvino as ov


def main():
    compiled = ov.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    draw = np.random.default_rng(1)
    figures = {"precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()}
    for n in (32, 128):
        inputs = {"input_ids": draw.integers(1000, 29000, (1, n), dtype=np.int64), "attention_mask": np.ones((1, n), dtype=np.int64)}
        names = {port.get_any_name() for port in compiled.inputs}
        if "token_type_ids" in names:
            inputs["token_type_ids"] = np.zeros((1, n), dtype=np.int64)
        times = []
        for _ in range(25):
            begin = time.monotonic()
            request.infer(inputs)
            times.append(time.monotonic() - begin)
        figures[f"{n}_tokens"] = {"milliseconds": statistics.median(times[5:]) * 1e3}
    print(json.dumps(figures))


main()
