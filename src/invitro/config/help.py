"""``--help`` of the entry points that Hydra runs: what their settings are, said in half a second.

Hydra's own help copies the whole configuration once for every group and folder that it looks into, which takes seconds
with the groups that there are here.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from invitro.config.common import REFUSED


def show_help(config: str, arguments: Sequence[str], home: Path) -> bool:
    """Print the help of the entry point whose configuration is `config`, if `arguments` ask for it.

    Values are shown as the other arguments set them: ``train.py plm=deberta --help`` shows DeBERTa's.

    Args:
        config: the name of the main configuration, such as ``train``.
        arguments: the command line without the script.
        home: the folder of the entry points, in which ``conf`` is.

    Returns:
        Whether help was asked for; nothing is left to do then.
    """
    if not {"-h", "--help"} & set(arguments):
        return False
    try:
        print(_text(config, [one for one in arguments if not one.startswith("-")], home / "conf"))
    except HydraException as error:
        print(str(error).partition("Config search path:")[0].strip(), file=sys.stderr)
        sys.exit(REFUSED)
    return True


def _text(config: str, overrides: Sequence[str], conf: Path) -> str:
    """Fill the template that stands under ``hydra.help``."""
    with initialize_config_dir(str(conf), version_base="1.3", job_name=config):
        cfg = compose(config, overrides=list(overrides), return_hydra_config=True)
        template, groups = str(cfg.hydra.help.template), list(cfg.hydra.runtime.choices)  # a resolver may ask Hydra
    with_groups = template.replace("$APP_CONFIG_GROUPS", _groups(groups, conf))
    OmegaConf.set_readonly(cfg, False)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    return with_groups.replace("$CONFIG", OmegaConf.to_yaml(cfg))


def _groups(names: Sequence[str], conf: Path) -> str:
    """List the choices of the groups that this entry point has; those in a folder of their own by ``folder/name``."""
    lines = []
    for name in sorted(name for name in names if (conf / name).is_dir()):
        nested = [other for other in names if other.startswith(f"{name}/")]
        files = [file.relative_to(conf / name).with_suffix("").as_posix() for file in (conf / name).rglob("*.yaml")]
        inside = [other.removeprefix(f"{name}/") for other in nested]
        choices = [file for file in files if not any(file.startswith(f"{one}/") for one in inside)]
        lines.append(f"{name}: {', '.join(sorted(choices))}\n")
    return "".join(lines)
