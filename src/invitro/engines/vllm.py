"""An engine in this process: vLLM, which batches requests and caches the prompts' common beginning."""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from invitro.engines.base import Messages, ModelName, Price, Reply, Request, TokenChoice
from invitro.errors import InputError, error_text
from invitro.settings import Count, checked
from invitro.weights import absent, packaged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
"""vLLM sends no usage data, and only the job's own progress bar is shown."""
ENVIRONMENT_ON_CPU = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "TORCHDYNAMO_DISABLE": "1",
}
"""Two GiB for keys and values; compiling the sampler would take longer than a small model needs for 100 texts."""
CPU_BLOCK = 32
"""Tokens of a cache block on a CPU. A common beginning is computed once in whole blocks; with vLLM's own, of 128,
up to 127 tokens of a questionnaire would be computed again for each text.
"""


@checked("llm.engine")
@dataclass
class VLLM:
    """Loads a model on the first request, and keeps `concurrency` requests in its batch from then on.

    A reply is returned as soon as it is complete, so a kill loses at most the requests in the batch.

    Args:
        model: a name on the model hub, or a folder in Transformers' format.
        revision: the hub's revision. If the weights come from a package, this is the package and its version.
        tensor_parallel_size: GPUs that share the model.
        dtype: of weights and activations; ``auto`` uses the model's own. On a CPU without bfloat16, float32 is faster.
        quantization: such as ``awq`` or ``fp8``; None uses what the model's folder says.
        max_model_len: the most tokens of prompt and reply; None is the model's own limit.
        constraint: ``regex`` allows nothing but valid scores, without white space to run on; ``json_schema`` the schema
            of the readouts ``text`` and ``expected``; ``none`` leaves the model free.
        prefix_caching: whether the prompts' common beginning is computed once.
        concurrency: requests given to vLLM at a time; it batches as many of them as fit.
        options: any other argument of vLLM's engine, such as ``gpu_memory_utilization``.
        price: per million tokens, to account for machine time.

    Raises:
        InputError: naming every setting that is wrong.
    """

    model: ModelName
    revision: str | None = None
    tensor_parallel_size: Count = 1
    dtype: str = "auto"
    quantization: str | None = None
    max_model_len: Count | None = None
    constraint: Literal["regex", "json_schema", "none"] = "regex"
    prefix_caching: bool = True
    concurrency: Count = 256
    options: Mapping[str, Any] = field(default_factory=dict)
    price: Price = field(default_factory=Price)

    def __post_init__(self) -> None:
        self._package = packaged(self.model, self.revision)
        if self._package is not None:
            self.revision = self._package.revision
        self._engine: Any = None

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests in the order in which replies become complete.

        Raises:
            InputError: vLLM is not installed, or the model cannot be loaded with these settings.
        """
        source, number = iter(requests), 0
        waiting: dict[str, Request] = {}
        engine = None
        try:
            while True:
                while len(waiting) < self.concurrency and (request := next(source, None)) is not None:
                    engine = self._loaded()
                    number += 1
                    refusal = self._added(engine, str(number), request)
                    if refusal is None:
                        waiting[str(number)] = request
                    else:
                        yield Reply(request, "", "error", refusal)
                if not waiting or engine is None:
                    return
                for output in engine.step():
                    if output.finished:
                        yield _reply(waiting.pop(output.request_id), output)
        finally:
            if engine is not None and waiting:
                engine.abort_request(list(waiting))

    def count_tokens(self, messages: Messages) -> int:
        """Count the tokens of a chat as the model reads it, without loading the model."""
        return len(self._tokens(messages, reply_follows=messages[-1]["role"] != "assistant"))

    def close(self) -> None:
        """Free the model's memory and end vLLM's processes."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
            self._engine = None

    @cached_property
    def _place(self) -> dict[str, str | None]:
        """Where to load the model from: a folder or name, and the hub's revision."""
        if self._package is not None:
            return {"model": str(self._package.folder()), "revision": None}
        return {"model": self.model, "revision": self.revision}

    @cached_property
    def _tokenizer(self) -> "PreTrainedTokenizerBase":
        from transformers import AutoTokenizer

        place, revision = self._place["model"], self._place["revision"]
        if missing := absent(str(place), revision):
            raise InputError(f"llm.model={self.model}: not found. {missing} that holds it with llm.model=")
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, revision=revision)
        except (OSError, ValueError) as error:
            raise InputError(f"llm.model={self.model}: its tokenizer cannot be loaded: {error}") from error
        if tokenizer.chat_template is None:
            raise InputError(
                f"llm.model={self.model} has no chat template: it was not trained to follow instructions; choose an "
                "instruction-tuned model, whose name often ends in Instruct or Chat"
            )
        return tokenizer

    @cached_property
    def _marks(self) -> list[str]:
        """The tokenizer's added tokens, the longest first, without those that are words or white space."""
        added = {mark.strip() for mark in self._tokenizer.get_added_vocab()}
        signs = [mark for mark in added if len(mark) > 1 and not mark.replace(" ", "").isalnum()]
        return sorted(signs, key=len, reverse=True)

    def _tokens(self, messages: Messages, reply_follows: bool = True) -> list[int]:
        """Return a chat's tokens; the control tokens in them are the template's alone."""
        rendered = self._tokenizer.apply_chat_template(
            [{**message, "content": without_marks(message["content"], self._marks)} for message in messages],
            add_generation_prompt=reply_follows,
            tokenize=True,
            return_dict=False,
        )
        return list(rendered)

    def _loaded(self) -> Any:
        """Return vLLM's engine, loading the model on the first call."""
        if self._engine is not None:
            return self._engine
        if find_spec("vllm") is None:
            raise InputError(
                f"llm.model={self.model} runs in vLLM, which is not installed here. On a machine with GPUs: "
                'pip install "invitro[vllm]" in a separate environment; on a CPU: make vllm, then '
                ".venv-vllm/bin/python label.py ...; for a vLLM server: llm=gpt llm.model=... llm.engine.base_url=..."
            )
        import torch

        # vLLM forks a process that uses the GPU, so CUDA must not be initialised in this one.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        on_cpu = not torch.cuda.is_available()
        for name, value in (ENVIRONMENT | ENVIRONMENT_ON_CPU if on_cpu else ENVIRONMENT).items():
            os.environ.setdefault(name, value)
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        settings: dict[str, Any] = self._place | {
            "tensor_parallel_size": self.tensor_parallel_size,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "max_model_len": self.max_model_len,
            "enable_prefix_caching": self.prefix_caching,
            "enforce_eager": on_cpu,
            "disable_log_stats": True,
            "trust_remote_code": False,
        }
        if on_cpu:
            settings["block_size"] = CPU_BLOCK
        self._tokenizer  # noqa: B018  (rejects a model without a chat template before anything large is loaded)
        log.info("loading %s", self.model)
        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**settings | dict(self.options)))
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise InputError(f"llm.model={self.model}: vLLM cannot load it with these settings: {error}") from error
        return self._engine

    def _added(self, engine: Any, name: str, request: Request) -> str | None:
        """Give a request to vLLM; return why vLLM refuses it, for example that the prompt is too long."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMValidationError
        from vllm.inputs import tokens_input
        from vllm.sampling_params import StructuredOutputsParams

        sampling, wanted, structure = request.sampling, request.constraint, None
        if wanted is not None and self.constraint == "regex":
            structure = StructuredOutputsParams(regex=wanted.regex)
        elif wanted is not None and self.constraint == "json_schema" and wanted.json_schema is not None:
            structure = StructuredOutputsParams(json=wanted.json_schema)
        temperature = 1.0 if sampling.temperature is None else sampling.temperature
        params = SamplingParams(
            temperature=temperature,
            max_tokens=sampling.max_tokens,
            # With a seed, vLLM samples request by request; a greedy reply does not depend on it.
            seed=sampling.seed if temperature > 0 else None,
            logprobs=sampling.top_logprobs or None,
            structured_outputs=structure,
        )
        try:
            engine.add_request(name, tokens_input(self._tokens(request.messages)), params)
        except (VLLMValidationError, ValueError) as error:
            return error_text(error)
        return None


def without_marks(text: str, marks: Sequence[str]) -> str:
    """Return `text` with a space after the first character of each of `marks` in it; they do not end in a space.

    Example:
        >>> without_marks("so <think>", ["<think>"])
        'so < think>'
    """
    for mark in marks:
        while mark in text:  # again if marks overlap
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _reply(request: Request, output: Any) -> Reply:
    """Read vLLM's result for a request."""
    done = output.outputs[0]
    decoded = zip(done.token_ids, done.logprobs or (), strict=False)  # no alternatives if none were requested
    return Reply(
        request=request,
        text=done.text,
        finish="length" if done.finish_reason == "length" else "stop",
        tokens=tuple(_choice(token, options) for token, options in decoded),
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(done.token_ids),
    )


def _choice(token: int, options: Mapping[int, Any]) -> TokenChoice:
    """Return a decoded token with its alternatives, the most probable first."""
    ranked = sorted(options.values(), key=lambda option: -option.logprob)
    # Tokens that the grammar forbids have a probability of 0.
    alternatives = tuple((str(other.decoded_token), float(other.logprob)) for other in ranked
                         if math.isfinite(other.logprob))  # fmt: skip
    return TokenChoice(str(options[token].decoded_token), alternatives)
