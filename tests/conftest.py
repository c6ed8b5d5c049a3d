"""Tiny encoders with the real architectures, and the entry points as a user runs them."""

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings
from inside import entered
from omegaconf import OmegaConf
from support import ROOT, WORDS, small_corpus

# A machine that does other things too is slow for moments; that is no fault of what is tested.
settings.register_profile("fast", deadline=None, max_examples=20)
settings.register_profile("thorough", deadline=None)
settings.load_profile("fast")

# Read when PyTorch and the hub's library are imported. Tiny models are slower on several threads, and no test asks the
# hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Processes that tests start run this checkout's code too, whichever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])

# A shell has its background processes ignore SIGINT, and what they start inherits that; here some are interrupted.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    """Read each configuration file once per process: Hydra parses all of them again for every command."""
    load = OmegaConf.load
    known: dict[tuple[str, int, int], Any] = {}

    def remembered(file: Any) -> Any:
        status = os.fstat(file.fileno()) if hasattr(file, "fileno") else Path(file).stat()
        key = (str(getattr(file, "name", file)), status.st_mtime_ns, status.st_size)
        if key not in known:
            known[key] = load(file)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(remembered))
        yield


@pytest.fixture(scope="module")
def one_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Wait for tests in other processes that start Ray: two that start at one moment can take each other's ports."""
    shared = tmp_path_factory.getbasetemp()
    with FileLock((shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "ray.lock"):
        yield


@pytest.fixture(scope="session")
def tiny_deberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a DeBERTa-v3 of two small layers and a unigram vocabulary, as its hub folder would be."""
    import torch
    from transformers import DebertaV2Config, DebertaV2ForMaskedLM, DebertaV2Tokenizer

    folder = tmp_path_factory.mktemp("tiny-deberta-v3")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [
        *special,
        *(f"▁{word}" for word in dict.fromkeys(WORDS.split())),
        *"abcdefghijklmnopqrstuvwxyz0123456789▁.,!?'",
    ]
    tokenizer = DebertaV2Tokenizer(vocab=[(piece, 0.0 if piece in special else -1.0) for piece in pieces])
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
        share_att_key=True, pos_att_type=["p2c", "c2p"], layer_norm_eps=1e-7, max_relative_positions=-1,
        position_biased_input=False, type_vocab_size=0, pad_token_id=0,
    )  # fmt: skip
    DebertaV2ForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a RoBERTa of two small layers and a byte-level vocabulary."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizer

    folder = tmp_path_factory.mktemp("tiny-roberta")
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = RobertaTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[])
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=130, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    RobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a decoder of two small layers, whose tokenizer has no padding, as decoders' often."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llama")
    pieces = ["</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="</s>").save_pretrained(folder)
    return folder


@pytest.fixture
def corpus_csv(tmp_path: Path) -> Path:
    """Return a CSV with texts, crowd labels and LLM labels, as a user would bring it."""
    path = tmp_path / "essays.csv"
    small_corpus().to_csv(path, index=False)
    return path


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(env: dict[str, str] | None) -> dict[str, str]:
    """Return a user's environment: nothing of W&B or of ours but what `env` says, and no network."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "INVITRO"))}
    return clean | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | (env or {})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs an entry point in an empty folder, as a user would: ``run("train.py", "seed=1")``.

    It runs in this process. What needs one of its own (launchers, W&B, interruptions) takes `run_apart`.
    """

    def entry_point(script: str, *overrides: str, env: dict[str, str] | None = None, **options: Any) -> Any:
        return entered(script, *overrides, folder=tmp_path, env=environment(env))

    return entry_point


@pytest.fixture
def run_apart(tmp_path: Path) -> Run:
    """Return a function like that of `run`, which starts a process."""

    def entry_point(script: str, *overrides: str, env: dict[str, str] | None = None, timeout: int = 300) -> Any:
        return subprocess.run(
            [sys.executable, str(ROOT / script), *overrides],
            cwd=tmp_path,
            env=environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return entry_point
