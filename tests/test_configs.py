"""Every shipped configuration composes and instantiates, and its first line says what it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from support import ROOT

CONF = ROOT / "conf"
GROUPS = ("application", "data", "data/split", "experiment", "llm", "logger", "plm", "prompt", "scale", "trainer")
ROWS = ("row/fusion", "row/noise_robust")
CHOICES = {group: [file.stem for file in sorted((CONF / group).glob("*.yaml"))] for group in GROUPS}


def composed(*overrides: str, name: str = "train") -> DictConfig:
    import invitro.commands  # noqa: F401  (registers the resolvers)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def instantiated(node: Any) -> Any:
    return instantiate(node, _convert_="all")


def test_every_group_is_known() -> None:
    folders = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."}
    assert folders == set(GROUPS) | {
        "cluster",
        "engine",
        "hydra/job_logging",
        "study",
        "experiment/table_v",
        *ROWS,
    }  # label.py's, sweep.py's, folders


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_the_first_lines_say_what_it_is(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# ")
    assert len(first) > 10


def beside_each_other(choices: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return as many settings as the longest list has choices; together they contain every choice of every key."""
    longest = max(map(len, choices.values()), default=1)
    return [{key: values[number % len(values)] for key, values in choices.items()} for number in range(longest)]


# An experiment decides what other groups are; everything else is chosen independently.
EXPERIMENTS = [{"experiment": choice} for choice in CHOICES.pop("experiment")]


@pytest.mark.parametrize(
    "choices", [*EXPERIMENTS, *beside_each_other(CHOICES)], ids=lambda chosen: "-".join(chosen.values())
)
def test_every_choice_composes_and_instantiates(choices: dict[str, str]) -> None:
    extra = ["data.path=essays.csv"] if choices.get("data") == "table" else []
    cfg = composed(*(f"{group}={choice}" for group, choice in choices.items()), *extra)
    OmegaConf.to_container(cfg, resolve=False)
    for node in ("data", "scale", "llm", "application", "plm", "fit", "optimizer", "trainer", "logger"):
        assert instantiated(cfg[node]) is not None


@pytest.mark.slow
@pytest.mark.parametrize("row", [path for group in ROWS for path in sorted((CONF / group).glob("*.yaml"))], ids=str)
def test_every_row_composes_whatever_encoder_the_command_line_names(row: Path) -> None:
    name = row.relative_to(CONF / "row").with_suffix("")
    cfg = composed("experiment=demo", "plm=minilm", f"row={name.as_posix()}")
    for node in ("llm", "application", "plm", "fit"):
        assert instantiated(cfg[node]) is not None
    assert cfg.application.pool == "auto"  # all rows of a study see the same crowd labels
    assert cfg.llm.name == ("ensemble" if row.stem == "ensemble" else "simulated")
    rows = composed(f"study={row.parent.name}", name="sweep").study.params.row.split(",")
    assert name.as_posix() in [row_name.strip() for row_name in rows]


STUDIES = [file.stem for file in sorted((CONF / "study").glob("*.yaml"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_s_jobs_compose_and_instantiate(name: str) -> None:
    study = instantiated(composed(f"study={name}", name="sweep").study)
    assert study.name == name
    assert study.title
    assert study.question.endswith("?") or "." in study.question
    assert set(study.replicates) <= {"seed", "data.split.fold"}
    if study.paper:
        assert study.paper in yaml.safe_load((ROOT / "src/invitro/studies/paper.yaml").read_text("utf-8"))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        swept = {key: parser.parse_override(f"{key}={value}") for key, value in study.params.items()}
    values = {key: list(sweep.sweep_iterator()) for key, sweep in swept.items() if sweep.is_discrete_sweep()}
    for params in beside_each_other({key: [str(value) for value in choices[:4]] for key, choices in values.items()}):
        job = composed(*study.overrides, *(f"{key}={value}" for key, value in params.items()), name=study.job)
        nodes = ("data", "scale", "llm") + (("application", "plm", "fit") if study.job == "train" else ())
        for node in nodes:
            assert instantiated(job[node]) is not None
        assert study.job != "train" or job.save_model is (name == "grid")


def test_table_v_s_rows_are_pairs_with_the_paper_s_recipe() -> None:
    rows = [file.stem for file in (CONF / "experiment" / "table_v").glob("*.yaml")]
    study = composed("study=table_v", name="sweep").study
    assert set(str(study.params["experiment"]).split(",")) == {f"table_v/{row}" for row in rows}
    composed_rows = set()
    for row in rows:
        cfg = composed(f"experiment=table_v/{row}")
        assert cfg.fit.checkpoint == "last"
        assert cfg.application.pool == "none"
        composed_rows.add((cfg.data.name, cfg.plm.name, cfg.application.name, cfg.llm.name, cfg.alpha))
    roberta, deberta, inf = "FacebookAI/roberta-base", "microsoft/deberta-v3-base", float("inf")
    assert composed_rows == {
        ("newsemp24", roberta, "none", "llama", inf),
        ("newsemp24", roberta, "correction", "llama", 3.5),
        ("newsemp24", roberta, "correction", "gpt", 3.5),
        ("newsemp24", deberta, "none", "llama", inf),
        ("newsemp24", deberta, "correction", "gpt", 4.0),
        ("newsemp24_22", roberta, "none", "llama", inf),
        ("newsemp24_22", roberta, "correction", "llama", 0.0),
        ("newsemp24_22", roberta, "correction", "llama", 4.0),
        ("newsemp24_23_22", roberta, "none", "llama", inf),
        ("newsemp24_23_22", roberta, "correction", "llama", 4.5),
    }


def test_alpha_is_a_number_and_not_a_group() -> None:
    assert composed("alpha=4.0").alpha == 4.0
    assert composed("alpha=4").alpha == 4
    assert composed("alpha=inf").alpha == float("inf")
    assert not (CONF / "alpha").exists()


def test_the_paper_s_recipe() -> None:
    cfg = composed("experiment=paper")
    fit = instantiated(cfg.fit)
    assert (fit.epochs, fit.batch_size, fit.start_epoch, fit.patience, fit.checkpoint) == (20, 16, 5, 2, "last")
    assert (fit.schedule_epochs, fit.warmup, fit.loss) == (10, 0.06, "mse")
    assert (cfg.optimizer.lr, list(cfg.optimizer.betas), cfg.optimizer.eps) == (3e-5, [0.9, 0.98], 1e-6)
    assert cfg.optimizer.weight_decay == 0.1
    assert cfg.plm.max_length == 512


def test_predict_composes() -> None:
    assert OmegaConf.missing_keys(composed(name="predict")) == {"model", "input", "output"}


def test_application_defaults_are_the_class_s() -> None:
    from invitro.application import Application

    cfg = OmegaConf.to_container(composed("application=both").application)
    assert isinstance(cfg, dict)
    shipped = Application(**{key: value for key, value in cfg.items() if not key.startswith("_")})
    columns = {"text_id": "text_id", "text": "text"}
    assert shipped == Application("both", True, True, pool="auto", pool_columns=columns)
