"""Command lines as people type them: rewritten for Hydra, with mistakes reported before anything starts; and the parts
of an override.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from io import TextIOWrapper
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import SearchPathElement
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from invitro.commands.common import REFUSED, leaves, noting, plain, refusing, secrets_in
from invitro.errors import InputError, as_called, command_line, conf_folder, quoted, refuse_if_any

LOOKING = ("--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--hydra-help", "--version")
"""Options that only print something."""
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")
"""Options whose value may be the next word."""
OWN_FOLDER = ("--config-dir", "-cd")


def begins(config: str, argv: list[str]) -> bool:
    """Whether an entry point continues: not if only help was requested.

    Its command line is rewritten for Hydra; one that is wrong ends the process with status `REFUSED`.

    Args:
        config: the main configuration, such as ``train``.
        argv: the command line with the script, changed in place.
    """
    speak_unicode()
    if {"-h", "--help"} & set(argv[1:]):
        _show_help(config, argv[1:])
        return False
    with refusing("Nothing was started."):
        argv[1:] = understood(config, argv[1:])
    return True


def speak_unicode() -> None:
    """Print UTF-8: Windows gives files and pipes an encoding that lacks the minus sign and most scripts."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(encoding="utf-8", errors="replace")


def _show_help(config: str, arguments: Sequence[str]) -> None:
    """Print an entry point's help, with values as its other arguments set them: ``plm=deberta`` shows DeBERTa's."""
    try:
        print(_text(config, [word for word in arguments if not word.startswith("-")]), flush=True)
    except BrokenPipeError:  # `head` has read enough; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except HydraException as error:
        print(message_of(error), file=sys.stderr)
        sys.exit(REFUSED)


def _text(config: str, overrides: list[str]) -> str:
    """Fill the template under ``hydra.help``."""
    with configured(config):
        cfg = compose(config, overrides=overrides, return_hydra_config=True)
        template, groups = str(cfg.hydra.help.template), list(cfg.hydra.runtime.choices)  # a resolver may ask Hydra
    with_groups = as_called(template.replace("$APP_CONFIG_GROUPS", _groups(groups)))
    ours = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return with_groups.replace("$CONFIG", OmegaConf.to_yaml(ours))


def _groups(names: Sequence[str]) -> str:
    """List the choices of this entry point's groups; those in a subfolder as ``folder/name``."""
    conf, lines = conf_folder(), []
    for name in sorted(name for name in names if (conf / name).is_dir() and not name.startswith("hydra/")):
        nested = tuple(f"{other.removeprefix(f'{name}/')}/" for other in names if other.startswith(f"{name}/"))
        files = [file.relative_to(conf / name).with_suffix("").as_posix() for file in (conf / name).rglob("*.yaml")]
        choices = sorted(file for file in files if not file.startswith(nested))
        lines.append(f"{name}: {', '.join(choices)}\n")
    return "".join(lines)


def understood(config: str, arguments: Sequence[str]) -> list[str]:
    """Return a command line that Hydra reads: options first, and values that it could not read otherwise quoted.

    Raises:
        InputError: a setting that does not exist, several values for one setting, or an unwritable folder.
    """
    if {word.partition("=")[0] for word in arguments} & set(LOOKING):
        return list(arguments)
    options, words = divided(arguments)
    with configured(config, own_folders(options)):
        lines = readable(words, config)
        given = parsed(lines)
        refuse_if_any(_mistakes(given, several=bool({"-m", "--multirun"} & set(options))))
        settings = [override for override in given if not is_hydra(override)]
        try:
            cfg = compose(config, overrides=[first_value(override) for override in settings])
        except HydraException as error:
            raise explained(error, config, settings) from None
        if any(override.is_add() or override.is_force_add() for override in settings):
            existing = compose(
                config, overrides=[first_value(override) for override in settings if _is_group(override)]
            )
            refuse_if_any(_unknown(key, existing) for key in cfg if key not in existing)
    if (runs := cfg.get("runs")) is not None:
        refuse_unwritable(Path(str(runs)))
    return [*options, *lines]


def parsed(lines: Sequence[str]) -> list[Override]:
    """Parse overrides; Hydra has to be initialised."""
    return list(OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(lines)))


def key_of(override: Override) -> str:
    """Return what an override sets, with or without ``+``."""
    return f"{override.key_or_group}@{override.package}" if override.package else override.key_or_group


def is_hydra(override: Override) -> bool:
    """Return whether an override decides how jobs are run, rather than being one of their settings."""
    return override.key_or_group.startswith(("hydra.", "hydra/"))


def is_sweeper(override: Override) -> bool:
    """Return whether an override affects how the jobs are generated."""
    return override.key_or_group.startswith(("hydra.sweeper.", "hydra/sweeper"))


def expression(override: Override) -> str:
    """Return an override's value as written."""
    return str(override.input_line).partition("=")[2]


def first_value(override: Override) -> str:
    """Return an override with the first of its swept values."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_discrete_sweep():
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    return f"{override.get_key_element()}={interval.start}"


def decided_by_rows(swept: Mapping[str, Override], passed: Sequence[Override]) -> Iterator[str]:
    """Yield overrides that would give all rows of the group ``row`` one value of a key in which rows differ."""
    if "row" not in swept:
        return
    deciders: dict[str, str] = {}
    chosen = swept["row"]
    for row in chosen.sweep_string_iterator() if chosen.is_sweep_override() else [str(chosen.value())]:
        file = conf_folder() / "row" / f"{row}.yaml"
        config = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
        groups = [entry for entry in config.pop("defaults", []) if isinstance(entry, dict)]
        names = [name.removeprefix("override /") for group in groups for name in group]
        deciders |= dict.fromkeys([*names, *_dotted(config)], row)
    for override in passed:
        key = override.key_or_group
        if key in deciders:
            yield (
                f"{override.input_line}: the rows of this study differ in {key}, which {deciders[key]} sets; leave it "
                "out, or choose rows with row=..."
            )


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def message_of(error: HydraException) -> str:
    """Return Hydra's message, and say what to install if a plugin is missing."""
    text = str(error).partition("Config search path:")[0].strip()
    for kind, remedy in {
        "hydra/launcher": 'pip install "invitro[joblib]", [slurm] or [ray]',
        "hydra/sweeper": 'pip install "invitro[optuna]" and pip install --no-deps hydra-optuna-sweeper==1.3.0',
    }.items():
        if f"Could not find '{kind}" in text:
            return f"{text}\nTo install more: {remedy}"
    return text


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of a command line, each followed by its value, and all other words."""
    options, words, expects = list[str](), list[str](), False
    for word in arguments:
        (options if expects or word.startswith("-") else words).append(word)
        expects = not expects and word in WITH_VALUE
    return options, words


def own_folders(options: Sequence[str]) -> list[Path]:
    """Return the user's folders of configuration among the options.

    Raises:
        InputError: one does not exist.
    """
    pairs = zip(options, [*options, ""][1:], strict=True)
    named = [word.partition("=")[2] or after for word, after in pairs if word.partition("=")[0] in OWN_FOLDER]
    folders = [Path(name).expanduser() for name in named]
    refuse_if_any(f"--config-dir={folder}: no such folder" for folder in folders if not folder.is_dir())
    return folders


@contextmanager
def configured(config: str, more: Sequence[Path] = ()) -> Iterator[None]:
    """Initialise Hydra with our configuration and the user's own folders."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name=config):
        loader = GlobalHydra.instance().config_loader()
        for folder in more:
            path = loader.get_search_path()
            # The last place is for configurations that are classes.
            path.get_path().insert(-1, SearchPathElement("command-line", f"file://{folder.absolute()}"))
            loader.repository = ConfigRepository(path)  # type: ignore[attr-defined]  # as for its own --config-dir
        yield


def readable(words: Sequence[str], config: str = "train") -> list[str]:
    """Return overrides that Hydra's grammar accepts; Hydra has to be initialised.

    Paths and names need no extra quotes: a value with umlauts, parentheses or quotation marks is quoted here, and a
    leading ``~/`` is the home folder.

    Raises:
        InputError: one of the words is not an override, or has an unmatched bracket.
    """
    refuse_if_any(secrets_in(words))
    lines, problems = list[str](), list[str]()
    for word in words:
        with noting(problems):
            lines.append(_readable(word, config))
    refuse_if_any(problems)
    return lines


def _readable(word: str, config: str) -> str:
    key, equals, value = word.partition("=")
    if value.startswith("\\\\"):  # a Windows share; Hydra would drop one of its two leading backslashes
        return f"{key}={quoted(value)}"
    try:
        parsed([word])
        return word
    except HydraException:
        if (path := Path(word).expanduser()).exists():
            named = ("model=" if path.is_dir() else "input=") if config == "predict" else "data=table data.path="
            raise InputError(f"{word}: expected key=value; to read it, write {named}{command_line([word])}") from None
        if not equals or not re.fullmatch(r"[+~]{0,2}[\w./@-]+", key):
            raise InputError(f"{key}: expected key=value, as in plm=minilm") from None
    if value[:1] in ("[", "{", '"', "'"):
        raise InputError(f"{key}: cannot be read; is a bracket, a comma or a quotation mark missing?")
    return f"{key}={quoted(Path(value).expanduser() if value.startswith('~/') else value)}"


def _mistakes(given: Sequence[Override], several: bool) -> Iterator[str]:
    """Yield a problem for each override that Hydra would not read as it was meant."""
    for override in given:
        key, value = override.key_or_group, override.value() if override.type != OverrideType.DEL else None
        if is_hydra(override):
            continue
        if override.type == OverrideType.DEL and "." not in key and not override.package:
            yield f"~{key}: settings cannot be removed; to switch one off, set it to null or none"
        elif override.is_sweep_override() and not several:
            written = expression(override)
            one_value = f'"{key}={quoted(written)}"'
            yield f"{key}={written}: several values need -m; a single value with commas needs quotes: {one_value}"
        elif isinstance(value, list) and _is_group(override):
            yield f"{key}: expected one choice, found a list; python ... -m {key}=A,B runs each"


def _is_group(override: Override) -> bool:
    # The loader's own get_group_options copies the repository first, which takes longer than everything else here.
    repository: ConfigRepository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    return bool(repository.get_group_options(override.key_or_group))


def explained(error: HydraException, config: str, given: Sequence[Override] = ()) -> InputError:
    """Return Hydra's refusal in one line, with what was probably meant; Hydra has to be initialised."""
    match = re.search(r"Could not override '([^'@]+)'", str(error))
    if match is None:
        return InputError(message_of(error))
    try:
        existing = compose(
            config,
            overrides=[
                first_value(override) for override in given if _is_group(override) and override.key_or_group != match[1]
            ],
        )
    except HydraException as other:
        return InputError(message_of(other))
    values = {override.key_or_group: override.value() for override in given if override.type != OverrideType.DEL}
    value, node = values.get(match[1]), OmegaConf.select(existing, match[1])
    if isinstance(value, dict) and isinstance(node, DictConfig):
        return InputError(
            *(
                f"{match[1]}: has no {name} yet; to add it, write +{match[1]}.{name}={part}"
                for name, part in value.items()
                if name not in node
            )
        )
    return InputError(_unknown(match[1], existing))


def _unknown(key: object, known: DictConfig) -> str:
    """Return the problem of a setting that does not exist, with those that are spelt alike."""
    groups = GlobalHydra.instance().config_loader().list_groups("")
    if key in groups:
        return f"{key}: this command or study has no such choice; --help lists all settings"
    names = dict.fromkeys([*_names(plain(known, resolve=False)), *groups], "")
    group = next((group for group in groups if group == re.split(r"[./]", str(key))[0]), "data")
    for file in sorted((conf_folder() / group).glob("*.yaml")):
        for name in _names({group: yaml.safe_load(file.read_text("utf-8"))}):
            names.setdefault(name, f" ({group}={file.stem} has it)")
    alike = {name: likeness(str(key), name) for name in names}
    best = max(alike, key=lambda name: alike[name])
    if alike[best] < LEAST_ALIKE:
        return f"{key}: there is no such setting; --help lists all settings"
    near = [name for name in names if alike[name] >= alike[best] - AS_GOOD and names[name] == names[best]][:MOST_NAMED]
    if "/" in str(key):
        near = [name.replace(".", "/") for name in near]
    return f"{key}: there is no such setting; did you mean {' or '.join(near)}{names[best]}?"


def _names(settings: dict[str, Any]) -> list[str]:
    """Return the dotted names of all settings, and of what they are part of."""
    names = [name for name, _ in leaves(settings, "")]
    parts = (".".join(name.split(".")[:depth]) for name in names for depth in range(name.count(".") + 1, 0, -1))
    return list(dict.fromkeys(parts))


LEAST_ALIKE, AS_GOOD, MOST_NAMED, LEFT_OUT = 0.65, 0.05, 3, 0.1
"""The likeness from which names are suggested; how far others may be below the best; how many are suggested; and the
cost of each part that was not typed (a superfluous one costs twice as much).
"""


def likeness(key: str, name: str) -> float:
    """Return how alike two dotted names are, 1 if they are equal: as alike as their least alike corresponding parts.

    Example:
        >>> names = "data.columns.text", "data.split.test", "data.path"
        >>> [round(likeness("data.column.text", name), 2) for name in names]
        [0.92, 0.18, -0.2]
    """
    ours, theirs = re.split(r"[./]", key), name.split(".")
    lacking = len(theirs) - len(ours)
    ours = ours[-len(theirs) :]
    ways = ((*chosen, theirs[-1]) for chosen in combinations(theirs[:-1], len(ours) - 1))
    return max(min(map(_ratio, ours, way)) for way in ways) - LEFT_OUT * max(lacking, -2 * lacking)


def _ratio(ours: str, theirs: str) -> float:
    return SequenceMatcher(None, min(ours, theirs), max(ours, theirs)).ratio()


def refuse_unwritable(folder: Path) -> None:
    """Raise an `InputError` if a folder, which may not exist yet, cannot be written to; nothing is left in it."""
    parent = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    try:
        with TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        problem = f"nothing can be written there ({error.strerror}: {parent}); name another folder"
        raise InputError(f"runs={folder}: {problem}") from None
