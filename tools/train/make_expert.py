#!/usr/bin/env python3
"""Makes one expert from a folder of text documents: adapter, card and routing prototypes.

    make_expert.py --name postgres --source corpora/postgresql-doc-15 --glob '**/*.html' \\
                   --description 'PostgreSQL 15' --licence PostgreSQL --out experts/postgres

Killed and started again with the same arguments it goes on from its last checkpoint and ends in the same adapter.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import base_model  # noqa: E402
import card as card_file  # noqa: E402
import documents as corpus  # noqa: E402
import examples as ex  # noqa: E402

EVALUATION_TOKENS = 5_000  # of pairs, and as many of chunks
PROTOTYPE_QUESTIONS = 300


@dataclasses.dataclass
class Recipe:
    """Everything that decides what the expert becomes. experts.yaml holds one a shipped expert."""
    name: str
    source: str
    globs: list[str]
    description: str
    licence: str
    source_package: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    questions: dict = dataclasses.field(default_factory=lambda: dict(ex.GENERIC_QUESTIONS))
    version: str = "1"
    max_documents: int = 400
    held_out: float = 0.12
    n_prototypes: int = 8
    training: dict = dataclasses.field(default_factory=dict)

    def fingerprint(self, documents: list[corpus.Document]) -> str:
        """Tells a checkpoint of this very training from one of other settings or documents."""
        decides = {"questions": self.questions, "held_out": self.held_out, "training": self.training}
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode())
        for document in documents:
            digest.update(document.name.encode())
            digest.update("".join(s.heading + s.text for s in document.sections).encode())
        return digest.hexdigest()


def training_examples(maker: ex.ExampleMaker, documents, settings):
    """Pairs and chunks enough for the steps; a large corpus is sampled so that its encoding stays short."""
    order = random.Random(settings.seed).sample(documents, len(documents))
    pairs, chunks, want = [], [], settings.steps * settings.batch_tokens
    for start in range(0, len(order), 50):
        pairs += maker.pairs(order[start:start + 50])
        chunks += maker.chunks(order[start:start + 50])
        if min(sum(len(e.ids) for e in kind) for kind in (pairs, chunks)) > want:
            break
    return pairs, chunks


def make_expert(recipe: Recipe, out: pathlib.Path, work: pathlib.Path, gguf: pathlib.Path, threads: int) -> dict:
    """Writes the expert folder `out` and returns its card. Raises ValueError on a corpus that cannot be used."""
    documents = corpus.read_corpus(pathlib.Path(recipe.source), recipe.globs, recipe.max_documents)
    import torch

    import training

    torch.set_num_threads(threads)
    settings = training.Settings(**recipe.training)
    train_documents, held_documents = ex.split_documents(documents, recipe.held_out, settings.seed)
    maker = ex.ExampleMaker(base_model.load_tokenizer(gguf), base_model.load_chat_renderer(gguf), recipe.questions)
    pairs, chunks = training_examples(maker, train_documents, settings)
    held = (ex.sample(maker.pairs(held_documents), EVALUATION_TOKENS, settings.seed)
            + ex.sample(maker.chunks(held_documents), EVALUATION_TOKENS, settings.seed))
    plan = ex.batches(pairs, chunks, settings.steps, settings.batch_tokens, settings.seed)
    print(f"{recipe.name}: {len(documents)} documents, {len(held_documents)} held out; {len(pairs)} pairs, "
          f"{len(chunks)} chunks to train on, {len(held)} held-out examples", flush=True)

    model = training.wrap_base(base_model.load_model(gguf, torch.bfloat16), settings)
    before = _held_out_before(model, held, work / f"{recipe.name}.before.json")
    print(f"  held-out loss before: {_show(before)}", flush=True)
    run = training.train(model, plan, settings, work / f"{recipe.name}.checkpoint", recipe.fingerprint(documents))
    save_adapter(model, out)
    from evaluation import held_out_loss
    after = held_out_loss(model, held)
    print(f"  held-out loss after:  {_show(after)}", flush=True)

    write_prototypes(recipe, train_documents, out, settings.seed)
    card = make_card(recipe, settings, run, documents, held_documents, before, after)
    card_file.write_card(out / "expert.yaml", card)
    (work / f"{recipe.name}.checkpoint").unlink(missing_ok=True)
    return card


def _held_out_before(model, held, cache: pathlib.Path) -> dict:
    """The base's loss, remembered between runs: it does not change when a killed run goes on."""
    from evaluation import held_out_loss

    key = hashlib.sha256(repr([e.ids for e in held]).encode()).hexdigest()
    if cache.exists() and (known := json.loads(cache.read_text()))["key"] == key:
        return known["loss"]
    with model.disable_adapter():
        loss = held_out_loss(model, held)
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps({"key": key, "loss": loss}))
    return loss


def _show(loss: dict) -> str:
    return "  ".join(f"{kind} {value:.3f}" for kind, value in loss.items() if kind != "tokens") + f"  ({loss['tokens']} tokens)"


def save_adapter(model, out: pathlib.Path) -> None:
    """PEFT's own two files: weights in bfloat16, a configuration without this machine's paths, keys in a fixed order."""
    import torch
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to(torch.bfloat16).contiguous()
               for name, tensor in sorted(get_peft_model_state_dict(model).items())}
    save_file(weights, str(out / "adapter_model.safetensors"), metadata={"format": "pt"})
    with torch.no_grad():  # what is evaluated next is what was written, rounding included
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.to(torch.bfloat16))
    config = model.peft_config["default"].to_dict()
    config.update(base_model_name_or_path=base_model.BASE_NAME, inference_mode=True, revision=None)
    config = {k: sorted(v) if isinstance(v, set) else (getattr(v, "value", v)) for k, v in config.items()}
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_prototypes(recipe: Recipe, train_documents, out: pathlib.Path, seed: int) -> None:
    import prototypes

    questions = [q for d in train_documents for q in ex.questions_of(d, recipe.questions)]
    questions = random.Random(seed).sample(questions, min(len(questions), PROTOTYPE_QUESTIONS))
    embedder = prototypes.load_embedder(base_model.models_folder())
    prototypes.save_prototypes(out / "prototypes.safetensors",
                               prototypes.make_prototypes(embedder, questions, recipe.n_prototypes, seed))


def make_card(recipe, settings, run, documents, held_documents, before, after) -> dict:
    def rounded(loss):
        return {k: v if k == "tokens" else round(v, 4) for k, v in loss.items()}

    return {
        "name": recipe.name, "version": recipe.version, "description": recipe.description, "tags": recipe.tags,
        "base": base_model.BASE_NAME, "licence": recipe.licence,
        "training_data": {"source": recipe.source_package or "local documents", "documents": len(documents),
                          "held_out_documents": len(held_documents)},
        "training": {"rank": settings.rank, "alpha": settings.alpha, "learning_rate": settings.learning_rate,
                     "seed": settings.seed, **run},
        "evaluation": {"measure": "mean loss per token, nats, on documents kept out of training",
                       "before": rounded(before), "after": rounded(after),
                       "relative_reduction": round(1 - after["total"] / before["total"], 4)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="the expert's name: lower-case letters, digits, '-'")
    parser.add_argument("--source", required=True, help="folder of documents, or a text file that lists them, one a line")
    parser.add_argument("--glob", action="append", help="which files of the folder (repeatable; default **/*)")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the expert folder to write")
    parser.add_argument("--description", default="", help="one line that tells a user what the expert knows")
    parser.add_argument("--tag", action="append", default=[], help="domain tag (repeatable); a request that declares it is sent here")
    parser.add_argument("--licence", default="unknown", help="licence of the documents")
    parser.add_argument("--steps", type=int, help="training steps")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--gguf", type=pathlib.Path, help=f"the base (default $COTERIE_MODELS/{base_model.GGUF_FILE})")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path.home() / ".cache/coterie/training",
                        help="where checkpoints go")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    chosen = {"steps": arguments.steps, "learning_rate": arguments.learning_rate, "seed": arguments.seed}
    recipe = Recipe(name=arguments.name, source=arguments.source, globs=arguments.glob or ["**/*"],
                    description=arguments.description or arguments.name, licence=arguments.licence,
                    tags=arguments.tag, training={k: v for k, v in chosen.items() if v is not None})
    try:
        card = make_expert(recipe, arguments.out, arguments.work, arguments.gguf or base_model.default_gguf(), arguments.threads)
    except (ValueError, FileNotFoundError) as error:
        print(f"make_expert: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: loss {card['evaluation']['before']['total']} -> {card['evaluation']['after']['total']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
