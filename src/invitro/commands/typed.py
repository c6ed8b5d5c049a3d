"""A command line as people type it: made readable for Hydra, with mistakes named before anything starts."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import SearchPathElement
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig

from invitro.commands.common import REFUSED, leaves, noting, plain, secrets_in, show_help
from invitro.commands.settings import first_value, is_hydra, message_of, parsed
from invitro.errors import InputError, conf_folder, quoted, refuse_if_any

LOOKING = ("--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--hydra-help", "--version")
"""Options that only show something."""
WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")
"""Options whose value may be the next word."""
OWN_FOLDER = ("--config-dir", "-cd")


def begins(config: str, argv: list[str]) -> bool:
    """Whether an entry point goes on: not where only help was asked for.

    Its command line becomes one that Hydra reads; one that is wrong ends the process with status `REFUSED`.

    Args:
        config: the main configuration, such as ``train``.
        argv: the command line with the script, changed in place.
    """
    if show_help(config, argv[1:]):
        return False
    try:
        argv[1:] = understood(config, argv[1:])
    except InputError as error:
        print(f"{error}\nNothing was started.", file=sys.stderr)
        sys.exit(REFUSED)
    return True


def understood(config: str, arguments: Sequence[str]) -> list[str]:
    """Return a command line that Hydra reads: options first, and values that it cannot read as they are, quoted.

    Raises:
        InputError: a setting that does not exist, several values where one belongs, or a folder that cannot be written.
    """
    if {word.partition("=")[0] for word in arguments} & set(LOOKING):
        return list(arguments)
    options, words = divided(arguments)
    with configured(config, conf_folder(), own_folders(options)):
        lines = readable(words)
        given = parsed(lines)
        refuse_if_any(_mistakes(given, several=bool({"-m", "--multirun"} & set(options))))
        settings = [one for one in given if not is_hydra(one)]
        try:
            cfg = compose(config, overrides=[first_value(one) for one in settings])
        except HydraException as error:
            raise explained(error, config, settings) from None
        if any(one.is_add() or one.is_force_add() for one in settings):
            known = compose(config, overrides=[first_value(one) for one in settings if _is_group(one)])
            refuse_if_any(_unknown(key, known) for key in cfg if key not in known)
    if (runs := cfg.get("runs")) is not None:
        refuse_if_any(filter(None, [unwritable(Path(str(runs)))]))
    return [*options, *lines]


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options of a command line, each before its value, and all other words."""
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
def configured(config: str, conf: Path, more: Sequence[Path] = ()) -> Iterator[None]:
    """Initialise Hydra with a folder of configuration, and further ones of the user's."""
    with initialize_config_dir(str(conf), version_base="1.3", job_name=config):
        loader = GlobalHydra.instance().config_loader()
        for folder in more:
            path = loader.get_search_path()
            # The last place is for configurations that are classes.
            path.get_path().insert(-1, SearchPathElement("command-line", f"file://{folder.absolute()}"))
            loader.repository = ConfigRepository(path)  # type: ignore[attr-defined]  # as for its own --config-dir
        yield


def readable(words: Sequence[str]) -> list[str]:
    """Return overrides that Hydra's grammar accepts; Hydra has to be initialised.

    Paths and names need no quotes of their own: a value with umlauts, parentheses or quotation marks is quoted here,
    and ``~/`` at its beginning is the home folder.

    Raises:
        InputError: one of the words is no override, or has a bracket without its other half.
    """
    refuse_if_any(secrets_in(words))
    lines, problems = list[str](), list[str]()
    for word in words:
        with noting(problems):
            lines.append(_readable(word))
    refuse_if_any(problems)
    return lines


def _readable(word: str) -> str:

    key, equals, value = word.partition("=")
    try:
        parsed([word])
        return word
    except HydraException:
        if not equals or not re.fullmatch(r"[+~]{0,2}[\w./@-]+", key):
            raise InputError(f"{key}: expected key=value, as in plm=minilm") from None
    if value[:1] in ("[", "{", '"', "'"):
        raise InputError(f"{key}: cannot be read; is a bracket, a comma or a quotation mark missing?")
    return f"{key}={quoted(Path(value).expanduser() if value.startswith('~/') else value)}"


def _mistakes(given: Sequence[Override], several: bool) -> Iterator[str]:
    """Yield a problem for each override that would be read otherwise than it was meant."""
    for one in given:
        key, value = one.key_or_group, one.value() if one.type != OverrideType.DEL else None
        if is_hydra(one):
            continue
        if one.type == OverrideType.DEL and "." not in key and not one.package:
            yield f"~{key}: settings cannot be taken away; to switch one off, set it to null, or to none"
        elif one.is_sweep_override() and not several:
            written = str(one.input_line).partition("=")[2]
            one_value = f'"{key}={quoted(written)}"'
            yield f"{key}={written}: several values need -m, and one value with commas quotes: {one_value}"
        elif isinstance(value, list) and _is_group(one):
            yield f"{key}: expected one choice, found a list; python ... -m {key}=A,B runs each"


def _is_group(one: Override) -> bool:
    # The loader's own get_group_options copies the repository first, which takes longer than all else here.
    repository: ConfigRepository = GlobalHydra.instance().config_loader().repository  # type: ignore[attr-defined]
    return bool(repository.get_group_options(one.key_or_group))


def explained(error: HydraException, config: str, given: Sequence[Override] = ()) -> InputError:
    """Return Hydra's refusal in one line, with what was probably meant; Hydra has to be initialised."""
    found = re.search(r"Could not override '([^'@]+)'", str(error))
    if found is None:
        return InputError(message_of(error))
    try:
        known = compose(
            config, overrides=[first_value(one) for one in given if _is_group(one) and one.key_or_group != found[1]]
        )
    except HydraException as other:
        return InputError(message_of(other))
    return InputError(_unknown(found[1], known))


def _unknown(key: object, known: DictConfig) -> str:
    """Return the problem of a setting that does not exist, with those that are written alike."""
    groups = GlobalHydra.instance().config_loader().list_groups("")
    if key in groups:
        return f"{key}: this command or study has no such choice; --help lists all settings"
    names = [name for name, _ in leaves(plain(known, resolve=False), "")]
    names += [".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 1)]
    names = list(dict.fromkeys([*names, *groups]))
    last = str(key).rpartition(".")[2]
    near = get_close_matches(str(key), names, 2, 0.75)
    near = near or [name for name in names if name.rpartition(".")[2] == last][:3]
    near = near or [name for name in names if get_close_matches(last, [name.rpartition(".")[2]], 1, 0.75)][:2]
    meant = f"did you mean {' or '.join(near)}?" if near else "--help lists all settings"
    return f"{key}: there is no such setting; {meant}"


def unwritable(folder: Path) -> str | None:
    """Return why nothing can be written into a folder that may not exist yet, or None; it is left as it was."""
    there = next(one for one in [folder, *folder.absolute().parents] if one.exists())
    try:
        with TemporaryDirectory(dir=there):
            pass
    except OSError as error:
        return f"runs={folder}: nothing can be written there ({error.strerror}: {there}); name another folder"
    return None
