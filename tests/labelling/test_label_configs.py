"""What ``label.py`` composes: every LLM that can be asked, every prompt, the store that ``train.py`` looks into too."""

from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from support import ROOT

import invitro.commands  # noqa: F401  (registers the resolvers)
from invitro.engines.base import Readout, Request, Sampling
from invitro.engines.chat import endpoint
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.texts import Text
from invitro.labels import LabelSource
from invitro.scales import Scale

CONF = ROOT / "conf"
KEY = "sk-of-this-test"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*overrides: str, name: str = "label") -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


@pytest.mark.parametrize("llm", names("llm"))
def test_every_llm(llm: str) -> None:
    more = ["llm.engine.base_url=https://lab.openai.azure.com/openai/v1"] if llm == "azure" else []
    cfg = composed(f"llm={llm}", "llm.model=another", "llm.labels=mine.csv", "llm.column=null", *more)
    source = instantiate(cfg.llm, _convert_="all")
    assert isinstance(source, LabelSource)
    assert (source.name, source.model, source.labels) == (llm, "another", "mine.csv")
    if cfg.llm.engine is None:
        assert llm in ("simulated", "ensemble")
        return
    assert (cfg.llm.engine.model, cfg.llm.engine.revision) == ("another", None)
    if not cfg.llm.engine._target_.startswith("invitro.engines.vllm"):
        assert instantiate(cfg.llm.engine, _convert_="all").model == "another"


@pytest.mark.parametrize(
    ("overrides", "address", "headers", "fields"),
    [
        (["llm=gpt"], "https://api.openai.com/v1/chat/completions", {"Authorization": f"Bearer {KEY}"},
         {"model": "gpt-4o", "temperature": 0.0, "seed": 0, "max_tokens": 160, "response_format": "json_schema"}),
        (["llm=gpt_reasoning"], "https://api.openai.com/v1/chat/completions", {"Authorization": f"Bearer {KEY}"},
         {"model": "gpt-5-mini", "reasoning_effort": "low", "max_completion_tokens": 8192,
          "response_format": "json_schema"}),
        (["llm=azure", "llm.model=mine", "llm.engine.base_url=https://lab.openai.azure.com/openai/v1"],
         "https://lab.openai.azure.com/openai/v1/chat/completions", {"api-key": KEY},
         {"model": "mine", "temperature": 0.0, "seed": 0, "max_tokens": 160, "response_format": "json_schema"}),
        (["llm=ollama"], "http://localhost:11434/v1/chat/completions", {},
         {"model": "llama3.1", "temperature": 0.0, "seed": 0, "max_tokens": 160, "response_format": "json_schema"}),
        (["llm=vllm_server", "llm.model=qwen"], "http://localhost:8000/v1/chat/completions", {},
         {"model": "qwen", "temperature": 0.0, "seed": 0, "max_tokens": 160, "structured_outputs": "regex"}),
        (["llm=openrouter"], "https://openrouter.ai/api/v1/chat/completions", {"Authorization": f"Bearer {KEY}"},
         {"model": "meta-llama/llama-3.3-70b-instruct", "temperature": 0.0, "seed": 0, "max_tokens": 160,
          "response_format": "json_schema"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_a_preset_sends(
    overrides: list[str], address: str, headers: dict[str, str], fields: dict[str, object], monkeypatch
) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.setenv(name, KEY)
    cfg = composed(*overrides)
    engine, questionnaire = (instantiate(node, _convert_="all") for node in (cfg.llm.engine, cfg.scale))
    form = instantiate(cfg.prompt, _convert_="all").form(questionnaire, Readout.TEXT)
    messages = ({"role": "system", "content": "Rate."}, {"role": "user", "content": "A text."})
    body = engine.request_body(Request("k", "t", messages, Sampling(max_tokens=form.max_tokens), form.constraint))
    assert endpoint(engine.base_url, "chat/completions") == address
    assert engine.all_headers() == headers
    body["response_format"] = body.get("response_format", {}).get("type")
    body["structured_outputs"] = next(iter(body.get("structured_outputs", {})), None)
    assert body.pop("messages") == list(messages)
    assert {name: value for name, value in body.items() if value is not None} == fields


@pytest.mark.parametrize(
    ("overrides", "missing"), [(["llm=azure"], "llm.engine.base_url"), (["llm=vllm_server"], "llm.engine.model")]
)
def test_what_a_preset_cannot_know_has_to_be_given(run, overrides: list[str], missing: str) -> None:
    done = run("label.py", "data=simulated", *overrides, env={"AZURE_OPENAI_API_KEY": KEY})
    assert (done.returncode, f"{missing}: expected" in done.stderr) == (2, True)


@cache
def choice(group: str, name: str) -> Any:
    """Return one choice of a group, made once: neither prompts nor scales depend on each other's settings."""
    return instantiate(composed(f"{group}={name}")[group], _convert_="all")


@pytest.mark.parametrize("scale", names("scale"))
@pytest.mark.parametrize("prompt", names("prompt"))
def test_every_prompt_suits_every_scale(prompt: str, scale: str) -> None:
    chosen, questionnaire = choice("prompt", prompt), choice("scale", scale)
    assert isinstance(chosen, Prompt)
    assert isinstance(questionnaire, Scale)
    messages = Renderer(chosen, chosen.form(questionnaire, Readout.TEXT)).messages(Text("t", "a story"))
    assert chosen.name == prompt
    asked = messages[0]["content"]
    assert all(item.name in asked for item in questionnaire.items) != chosen.overall or len(questionnaire.items) == 1


def test_label_and_train_share_the_store() -> None:
    labelling, training = composed("runs=here"), composed("runs=here", name="train")
    assert labelling.store == labelling.llm.store == training.store == training.llm.store == "here/labels.sqlite"


def test_train_starts_no_engine() -> None:
    cfg = composed("llm=gpt", name="train")
    source = instantiate(cfg.llm, _convert_="all")
    assert source.engine["_target_"].endswith("OpenAICompatible")
    assert source.engine["key_env"] == "OPENAI_API_KEY"


def test_the_help_lists_the_groups_that_label_uses_and_no_others(run) -> None:
    shown = run("label.py", "--help").stdout
    groups = {line.partition(":")[0]: line.partition(": ")[2] for line in shown.splitlines() if ": " in line}
    for group in ("data", "scale", "llm", "prompt"):
        assert groups[group].split(", ") == names(group)
    assert groups["experiment"] == "prompt_check"
    assert not {"plm", "trainer", "logger", "application"} & set(groups)
    assert not {"plm:", "trainer:", "data/split:"} & set(run("predict.py", "--help").stdout.split())


def test_the_prompt_check_is_a_diff_of_label() -> None:
    cfg = composed("experiment=prompt_check", "prompt@check.items=reasoned", "~prompt@check.both")
    assert {role: prompt.name for role, prompt in cfg.check.items()} == {"overall": "plain", "items": "reasoned"}
    assert (cfg.limit, cfg.limit_seed) == (100, 0)
    assert isinstance(instantiate(cfg.check["items"], _convert_="all"), Prompt)
    assert composed().check == {}


def test_a_slider_is_called_like_the_column_of_the_ratings() -> None:
    def read(*words: str) -> Any:
        return instantiate(composed("scale=slider", *words).scale, _convert_="all")

    slider = read("data=table", "data.path=x.csv", "data.columns.crowd_label=compassion", "scale.high=10")
    assert (slider.construct, slider.minimum, slider.maximum) == ("compassion", 0, 10)
    assert (slider.items[0].name, slider.items[0].statement) == ("overall", "compassion as a whole")
    assert (
        slider.instructions == "Judge the compassion as a whole, from 0 (none at all) to 10 (as much as there can be)."
    )
    assert read("data=newsemp18").construct == "rating"
    assert read("data=table", "data.path=x.csv", "scale.construct=awe").items[0].statement == "awe as a whole"
    single = instantiate(composed("scale=single_item", "scale.high=100").scale, _convert_="all")
    assert "to 100 (as" in single.instructions
    assert all("100" in words["instructions"] for words in single.translations.values())


@pytest.mark.parametrize("scale", ["batson_empathy", "batson_distress", "single_item"])
def test_translations_are_complete(scale: str) -> None:
    questionnaire = instantiate(composed(f"scale={scale}").scale, _convert_="all")
    languages = set(composed("prompt=multilingual").prompt.languages) - {"en"}
    assert set(questionnaire.translations) == languages
    for words in questionnaire.translations.values():
        assert set(words) == {"construct", "occasion", "instructions", *(item.name for item in questionnaire.items)}
        assert len(set(words.values())) == len(words)


@pytest.mark.parametrize("language", ["en", "de", "es", "bn"])
@pytest.mark.parametrize("scale", names("scale"))
def test_the_multilingual_prompt_suits_any_number_of_items(scale: str, language: str) -> None:
    chosen, questionnaire = choice("prompt", "multilingual"), choice("scale", scale)
    readout = Readout.DIGITS if questionnaire.high < 10 else Readout.TEXT
    renderer = Renderer(chosen, chosen.form(questionnaire, readout))
    system = renderer.messages(Text("t", "x", language=language))[0]["content"]
    for item in questionnaire.items:
        assert questionnaire.translations.get(language, {}).get(item.name, item.statement) in system
    plural = {"en": "1 items", "de": "1 Items", "es": "1 ítems", "bn": "1টি"}
    assert plural[language] not in system
