"""Workers as functions on Modal: the parts of an app that a user deploys, and the engine that calls it.

``training/modal_tokenize.py`` is such an app. Inputs and output are in a Modal volume, in buckets mounted in the
containers, or at URLs that fsspec opens with credentials from a Modal secret.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, override

from tomat.engine.job import Engine
from tomat.engine.local import Progress, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from tomat.engine.job import Job
    from tomat.material import Entry

#: The functions of the app.
FUNCTIONS = ("list_inputs", "prepare_dataset", "tokenize_worker", "check_dataset")

#: Seconds between checks of the calls.
_POLL_S = 2.0


@dataclass(frozen=True)
class ModalSettings:
    """Settings of an app.

    Attributes:
        volumes: names of Modal volumes by mount point; created if they do not exist.
        buckets: names of S3-compatible buckets by mount point.
        bucket_endpoint: endpoint of a store other than S3 (``https://storage.googleapis.com``); None for S3.
        secret: name of the Modal secret with the credentials of buckets, mounted or at URLs.
        wheel: the wheel of tomat on the machine that deploys (:func:`built_wheel`); None in a container.
        constraints: pip constraints file on the machine that deploys; None for the newest versions.
        extra_packages: further requirements.
        cpu, memory_mb: of a container; a worker with n threads uses n CPUs.
        timeout_s: of one worker.
        max_containers: concurrent workers.
        retries: restarts of a worker that failed or lost its container.
    """

    volumes: dict[str, str] = field(default_factory=dict)
    buckets: dict[str, str] = field(default_factory=dict)
    bucket_endpoint: str | None = None
    secret: str | None = None
    wheel: Path | None = None
    constraints: Path | None = None
    extra_packages: tuple[str, ...] = ()
    cpu: float = 4.0
    memory_mb: int = 4096
    timeout_s: int = 6 * 3600
    max_containers: int = 100
    retries: int = 5


def _modal() -> Any:
    try:
        import modal
    except ImportError as error:
        raise ValueError("the modal engine needs Modal: pip install 'tomat[modal]'") from error
    return modal


def built_wheel(root: str | Path) -> Path | None:
    """The newest wheel of tomat in ``root/dist``, as built by ``make wheel``; None if there is none."""
    wheels = Path(root, "dist").glob("tomat-*.whl")
    return max(wheels, key=lambda wheel: wheel.stat().st_mtime, default=None)


def image(settings: ModalSettings) -> Any:
    """A container image with tomat.

    Raises:
        ValueError: no wheel, or one for another system.
    """
    modal = _modal()
    base = modal.Image.debian_slim(python_version="3.12")
    wheel = settings.wheel
    if wheel is None:
        if modal.is_local():
            raise ValueError("no wheel of tomat for the containers; make one with: make wheel")
        return base
    if "linux" not in wheel.name or "x86_64" not in wheel.name:
        raise ValueError(f"{wheel}: the containers are Linux on x86_64; make a wheel there with: make wheel")
    base = base.add_local_file(wheel, f"/install/{wheel.name}", copy=True)
    options = ""
    if settings.constraints is not None:
        base = base.add_local_file(settings.constraints, "/install/constraints.txt", copy=True)
        options = "-c /install/constraints.txt "
    packages = shlex.join([f"/install/{wheel.name}[gcs]", *settings.extra_packages])
    return base.run_commands(f"pip install -q {options}{packages}")


def mounts(settings: ModalSettings) -> dict[str, Any]:
    """Volumes and buckets by mount point."""
    modal = _modal()
    secret = modal.Secret.from_name(settings.secret) if settings.secret else None
    found: dict[str, Any] = {
        folder: modal.Volume.from_name(name, create_if_missing=True)
        for folder, name in settings.volumes.items()
    }
    for folder, name in settings.buckets.items():
        found[folder] = modal.CloudBucketMount(
            bucket_name=name, bucket_endpoint_url=settings.bucket_endpoint, secret=secret
        )
    return found


def function_options(settings: ModalSettings) -> dict[str, Any]:
    """The arguments of ``app.function`` for the function that runs a part."""
    modal = _modal()
    return {
        "image": image(settings),
        "volumes": mounts(settings),
        "secrets": [modal.Secret.from_name(settings.secret)] if settings.secret else [],
        "cpu": settings.cpu,
        "memory": settings.memory_mb,
        "timeout": settings.timeout_s,
        "max_containers": settings.max_containers,
        "retries": modal.Retries(
            max_retries=settings.retries, backoff_coefficient=2.0, initial_delay=2.0, max_delay=60.0
        ),
    }


def synced[T](volumes: Iterable[Any], work: Callable[[], T]) -> T:
    """Reload volumes, run ``work`` in a container, and commit its changes, also if it fails, so that it can resume."""
    found = [volume for volume in volumes if hasattr(volume, "commit")]
    for volume in found:
        volume.reload()
    try:
        return work()
    finally:
        for volume in found:
            volume.commit()


class ModalEngine(Engine):
    """Runs each worker as a call of a deployed function. Paths are URLs, or absolute paths in the containers.

    Args:
        app: name of the deployed app.
        functions: functions by name to use instead of the deployed ones.
    """

    def __init__(self, app: str = "tomat-tokenize", functions: Mapping[str, Any] | None = None) -> None:
        """Look up the deployed functions.

        Raises:
            ValueError: Modal is not installed.
        """
        if functions is None:
            modal = _modal()
            functions = {name: modal.Function.from_name(app, name) for name in FUNCTIONS}
        self._functions = functions
        super().__init__()

    @override
    def resolve_inputs(
        self, inputs: Sequence[str], *, split_file: str | None, split: str | None, limit: int | None
    ) -> list[Entry]:
        """:func:`tomat.dataset.resolve_inputs`, run in a container, which has the volumes."""
        return list(self._functions["list_inputs"].remote(list(inputs), split_file, split, limit))

    @override
    def _prepare(self, out: str, *, resume: bool, overwrite: bool) -> None:
        self._functions["prepare_dataset"].remote(out, resume, overwrite)

    @override
    def _check(self, out: str) -> None:
        self._functions["check_dataset"].remote(out)

    @override
    def _work(self, job: Job) -> Generator[list[tuple[int, Progress | Summary]]]:
        spawn = self._functions["tokenize_worker"].spawn
        calls = {part.config.worker_index: spawn(part) for part in job.parts(1)}
        try:
            while calls:
                self._check_not_cancelled(job)
                news: list[tuple[int, Progress | Summary]] = []
                for index, call in list(calls.items()):
                    with contextlib.suppress(TimeoutError):
                        done = call.get(timeout=0)
                        del calls[index]
                        n, left_out = done.n_listed, done.n_left_out
                        told = Progress(n, n, left_out, done.rows, done.bytes, done.seconds)
                        news += [(index, told), (index, done)]
                yield news
                if calls:
                    self._is_cancelled.wait(_POLL_S)
        finally:
            for call in calls.values():
                call.cancel()
