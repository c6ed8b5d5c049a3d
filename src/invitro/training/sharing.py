"""Processes that train beside each other: equal runs are trained once, and each process has a GPU of its own."""

import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

LOCKS = ".locks"

_taken: list[FileLock | None] = []  # once a process has its GPU; the lock is held until it ends


@contextmanager
def alone(runs: Path, fingerprint: str) -> Iterator[None]:
    """Wait until no other process below `runs` trains the run `fingerprint`, and keep others out meanwhile.

    The lock is the operating system's (flock): it is gone with its process, however that ended. On a shared file
    system without flock, machines cannot keep each other out.
    """
    path = runs / LOCKS / f"{fingerprint}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another process is training an equal run; waiting for its record")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def take_gpu(gpus: Sequence[str]) -> str | None:
    """Give this process one of the machine's `gpus` as its only one, until it ends; return which.

    Has to come before CUDA starts, which looks at ``CUDA_VISIBLE_DEVICES`` once. Processes agree by locks in the
    temporary folder; where there are more processes than GPUs, the rest are spread over all of them.
    """
    if _taken:
        return os.environ["CUDA_VISIBLE_DEVICES"]
    if len(gpus) < 2:
        return None
    folder = Path(tempfile.gettempdir()) / f"invitro-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    held, chosen = None, gpus[os.getpid() % len(gpus)]
    for gpu in gpus:
        lock = FileLock(folder / f"gpu-{socket.gethostname()}-{re.sub(r'[^A-Za-z0-9-]', '_', gpu)}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        held, chosen = lock, gpu
        break
    _taken.append(held)
    os.environ["CUDA_VISIBLE_DEVICES"] = chosen
    return chosen


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; CUDA is not started."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
