"""Writes the seeds of request_fuzz: make_request_seeds.py tests/fuzz/corpus/request_fuzz (needs protoc)."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGEST_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # SHA-256 of "a": request_fuzz has it
DIGEST_B = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"

CONTEXT = 'context { tenant: "t" priority: -3 trace_id: "trace" cache_salt: "salt" }'
ROUTING = 'routing { tags: "law" tags: "de" allowed_experts: "an-expert" policy: "nearest" }'
SAMPLING = """sampling { max_tokens: 20 temperature: 0.7 top_k: 5 top_p: 0.9 min_p: 0.05 repetition_penalty: 1.1
  presence_penalty: 0.5 frequency_penalty: -0.5 logit_bias { key: 7 value: -3 } logit_bias { key: 9 value: 100 }
  seed: 42 %s stop_token_ids: 17 ignore_eos: true logprobs: 3 }"""
GENERATE = SAMPLING % 'stop: "END"'
CHAT = 'chat { messages { role: "system" content: "be" } messages { role: "user" content: "hi" } }'


def digest(text):
    return "".join(f"\\x{text[i:i + 2]}" for i in range(0, 64, 2))


STATE = f"""state {{ running: 2 waiting: 1 kv_blocks_used: 9 draining: true resident_added: "{digest(DIGEST_A)}"
  resident_removed: "{digest(DIGEST_B)}" prefixes_added: [1, 2] prefixes_removed: 1 tokens_per_second: 12.5 }}"""
PAGED = "prompt_ids: [" + ", ".join(str(3 + i % 290) for i in range(70)) + "]"


def submit(number, more, sampling=SAMPLING % ""):
    return f"submit {{ sequence_id: {number} {sampling} tenant: 't' deadline_ms: 60000 {more} }}"


def use(text, weight=1):
    return f'adapters {{ digest: "{digest(text)}" weight: {weight} name: "x" }}'


# Name -> who speaks (request_fuzz.cc's order), the message's type, one message or, on streams, several.
SEEDS = {
    "generate": (0, "GenerateRequest", f'prompt: "hello" expert: "auto" {GENERATE} {ROUTING} {CONTEXT}'),
    "generate-chat": (0, "GenerateRequest", f'{CHAT} expert: "an-expert@{DIGEST_A[:8]}" {CONTEXT}'),
    "score": (1, "ScoreRequest", f'prompt: "a" completion: "b" expert: "base" {ROUTING} {CONTEXT} top_logprobs: 3'),
    "route": (2, "RouteRequest", f"{CHAT} {ROUTING} {CONTEXT}"),
    "worker": (3, "WorkerMessage", [
        f"""hello {{ protocol_version: 1 worker_id: "w" base_digest: "{digest(DIGEST_A)}" numerics_class: "c" kv_blocks: 20
        tokenizer_digest: "{digest(DIGEST_B)}" max_running: 4 adapter_slots: 2 serves: "an-*" serves: "[x" {STATE} }}""",
        f"step {{ outputs {{ sequence_id: 3 position: 1 token_ids: [4, 5] logprobs {{ chosen {{ token_id: 4 logprob: -1 }}"
        f" top {{ token_id: 9 }} }} cached_prompt_tokens: 16 queued_ms: 5 }} {STATE} }}",
        'step { outputs { sequence_id: 3 finish: FINISH_REASON_ERROR error_code: 5 error_message: "gone" } }',
        "step { outputs { sequence_id: 4 finish: FINISH_REASON_STOP stop_token_id: 2 } }",
        f"heartbeat {{ counter: 3 {STATE} }}"]),
    "submit": (4, "GatewayMessage", [submit(1, "prompt_ids: [5, 6, 7] initial_credit: 4")]),
    "submit-many": (4, "GatewayMessage", [
        submit(1, PAGED), submit(2, PAGED + " resume_ids: [8, 9] priority: 9", "sampling { max_tokens: 90 }"),
        submit(3, "prompt_ids: [5] " + use(DIGEST_A, 0.5) + use(DIGEST_B, 0.5)), "credit { sequence_id: 2 tokens: 5 }",
        submit(4, PAGED + " prompt_logprobs_from: 2 score_only: true"),
        f'prefetch {{ digest: "{digest(DIGEST_B)}" }}', "cancel { sequence_id: 3 }",
        "reattach { sequences { sequence_id: 2 next_position: 7 credit: 9 } }", submit(5, use(DIGEST_A[::-1]) + "prompt_ids: 2")]),
}


def encode(kind, text):
    return subprocess.run(["protoc", f"--encode=coterie.v1.{kind}", "-I", "proto", "coterie/v1/generation.proto",
                           "coterie/v1/worker.proto"], cwd=ROOT, input=text.encode(), stdout=subprocess.PIPE, check=True).stdout


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, (who, kind, messages) in SEEDS.items():
    if isinstance(messages, str):
        content = encode(kind, messages)
    else:
        content = b"".join(varint(len(m)) + m for m in (encode(kind, text) for text in messages))
    (folder / name).write_bytes(bytes([who]) + content)
