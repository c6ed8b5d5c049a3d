"""What Ray is started in: an environment in which it is quiet and keeps to itself, and an address that answers."""

import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from invitro.errors import InputError

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Nothing is reported to anybody, and the job's own progress bar is the one to be seen."""
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""As on Windows and macOS, a cluster of one machine listens on loopback only; and it obeys nobody without its token."""
TIMEOUT = 20.0
"""Seconds until a cluster's head node has to answer."""


def set_environment(local: bool) -> None:
    """Set what Ray reads when it is first imported; what the user has set stays.

    Args:
        local: whether Ray is to be started on this machine. Its token lives in this process and those that it starts,
            and is written nowhere.
    """
    settings = QUIET | (LOCAL | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if local else {})
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def check_address(address: str) -> None:
    """Refuse ``host:port`` at which nothing listens: Ray itself would go on trying for ever.

    Raises:
        InputError: nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # such as "auto", which Ray resolves itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT).close()
    except OSError as error:
        raise InputError(f"cluster.address: nothing answers at {address}: {error}") from error


def check_size(resources: Mapping[str, float], workers: int, cpus: float, gpus: float) -> None:
    """Refuse a cluster on which the workers would wait for ever.

    Args:
        resources: CPUs and GPUs of the whole cluster, as Ray counts them.
        workers: how many are wanted.
        cpus: of each.
        gpus: of each.

    Raises:
        InputError: they do not fit.
    """
    for name, each in (("cpus", cpus), ("gpus", gpus)):
        found = resources.get(name[:3].upper(), 0.0)
        if found < workers * each:
            raise InputError(
                f"cluster.{name}: {workers} workers with {each:g} each need {workers * each:g}, and Ray has {found:g}; "
                f"set cluster.workers, cluster.{name}, or the cluster.address of a larger cluster"
            )


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide what Ray's C++ part writes at its start, whatever the level of its log; errors are raised all the same."""
    sys.stderr.flush()
    shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)
