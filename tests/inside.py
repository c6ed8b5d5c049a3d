"""The entry points, run in this process: as in one of their own, without the seconds in which PyTorch is imported."""

import contextlib
import io
import logging
import os
import random
import runpy
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from support import ROOT

SCRIPTS = {
    str(ROOT / f"{name}.py") for name in ("train", "describe", "predict", "label", "sweep", "tests/studies/quick_job")
}


def entered(script: str, *overrides: str, folder: Path, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run an entry point in `folder`, with `env` as its whole environment; return what a process of its own would."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before, here = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _launches_inside():
            status = _status(str(ROOT / script), *overrides)
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
    told, problems = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess([script, *overrides], status, told, problems)


def _status(script: str, *overrides: str) -> int:
    """Run a script, and return its exit status; what it raises is printed as the interpreter would."""
    with _as_at_the_start(script, *overrides):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
                return 1
            return end.code or 0
        except Exception:
            traceback.print_exc()
            return 1
    return 0


@contextlib.contextmanager
def _as_at_the_start(*argv: str) -> Iterator[None]:
    """Have everything that a process begins with be as at its beginning, and afterwards as before."""
    import torch
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobRuntime

    from invitro.commands.common import RememberPlace

    root, arguments, instances = logging.getLogger(), sys.argv, dict(Singleton._instances)
    handlers, level = root.handlers[:], root.level
    place, launch = RememberPlace.sweep, RememberPlace.launch
    chance, numpy_chance, torch_chance = random.getstate(), np.random.get_state(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    for one in (GlobalHydra, HydraConfig, JobRuntime):
        Singleton._instances.pop(one, None)
    root.handlers, sys.argv = [], list(argv)
    RememberPlace.sweep = RememberPlace.launch = None
    _forget()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers, sys.argv = handlers, arguments
        root.setLevel(level)
        RememberPlace.sweep, RememberPlace.launch = place, launch
        Singleton._instances.clear()
        Singleton._instances.update(instances)
        random.setstate(chance)
        np.random.set_state(numpy_chance)
        torch.set_rng_state(torch_chance)
        torch.use_deterministic_algorithms(deterministic)


def _forget() -> None:
    """Empty our own caches: paths are relative to a folder that the process has left."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "invitro":
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear") and getattr(value, "__module__", None) == name:
                    value.cache_clear()


@contextlib.contextmanager
def _launches_inside() -> Iterator[None]:
    """Have the processes that an entry point starts of another (``sweep.py`` of ``train.py``) run in this one too."""
    process = subprocess.Popen

    class Inside(process):  # type: ignore[type-arg]
        def __init__(self, command: Any, *arguments: Any, **options: Any) -> None:
            ours = isinstance(command, list) and command[0] == sys.executable and command[1] in SCRIPTS
            if not ours or arguments or options:
                super().__init__(command, *arguments, **options)
                return
            self.args, self.pid = command, os.getpid()
            self.stdin = self.stdout = self.stderr = None
            self.returncode = _status(*command[1:])

    subprocess.Popen = Inside  # type: ignore[misc]
    try:
        yield
    finally:
        subprocess.Popen = process  # type: ignore[misc]
