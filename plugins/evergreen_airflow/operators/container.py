"""Training in a container that may do nothing but train: the provider's operator with the house's walls around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Event, Timer
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.docker.exceptions import DockerContainerFailedException
from airflow.providers.docker.operators.docker import DockerOperator
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, LogConfig, Mount
from requests.exceptions import RequestException

from evergreen.errors import PlatformError, TrainingError
from evergreen_airflow.failures import fails_plainly
from evergreen_airflow.operators.process import TRAIN_JOB, JobOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from airflow.sdk import Context

    from evergreen.platform.containers import Owner
    from evergreen.settings import Settings
    from evergreen.training.spec import TrainSpec

MIB = 1024**2
GPU_LABEL = "evergreen.gpu"
GPU_FRAMEWORK = "torch"
LOG_SIZE = "10m"
NO_GPU = (
    "settings.container.gpus is 'on' and the engine has no GPU to give (no runtime 'nvidia'): install the NVIDIA "
    "Container Toolkit there, or set it to 'auto'"
)


class TrainContainerOperator(DockerOperator):
    """Runs the trainer's entry point in a container: the same spec in, the same bundle and the same result out.

    All limits and places come from `settings.container`. The container has no network, no capability, a read-only root
    and no way to gain privileges; it sees its training set to read and its output folder to write, nothing else. What
    an earlier try of the task left running is removed first.

    :param spec: one training spec (`evergreen.training.spec`). Templated.
    :raises EvergreenError: the trainer refused (its own message), ran out of memory or time, or cannot be started as
        the settings say.
    :raises DockerContainerFailedException: it crashed or was killed from outside; with the end of its log.
    """

    template_fields: Sequence[str] = ("spec",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"spec": "json"}
    template_ext: Sequence[str] = ()

    def __init__(self, *, spec: Any, **kwargs: Any) -> None:
        kwargs |= {"auto_remove": "force", "mount_tmp_dir": False, "xcom_all": False, "force_pull": False}
        kwargs.setdefault("entrypoint", ["python", "-u", "-m", TRAIN_JOB])
        super().__init__(image="", **kwargs)  # the image is a setting, read when the task runs
        self.spec = spec

    @fails_plainly
    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # the provider's returns text
        """Trains, unless the same was trained before, and returns the trainer's result."""
        from evergreen.platform.containers import Owner, TaskKey, workspace_of
        from evergreen.settings import load_settings
        from evergreen.training.trained import train_once

        settings = load_settings()
        ti = context["ti"]
        task = TaskKey(ti.dag_id, ti.run_id, ti.task_id, ti.map_index if ti.map_index is not None else -1)
        owner = Owner(workspace_of(settings), task, ti.try_number)

        def run(folder: Path, arguments: list[str]) -> dict[str, Any]:
            self._prepare(settings, owner, folder)
            return self._train(settings, arguments)

        return train_once(settings, self.spec, run)

    def _prepare(self, settings: Settings, owner: Owner, folder: Path) -> None:
        """Sets what the provider's attributes are for, and refuses what cannot work before anything starts."""
        from evergreen.platform.containers import as_filter, hand_over, mounts, user_of
        from evergreen.training.spec import TrainSpec

        spec = TrainSpec.model_validate(self.spec)
        self.image = settings.container.image
        self.docker_url = settings.container.engine_url
        self.network_mode = settings.container.network
        self.user = user_of(settings)
        self.labels = owner.labels
        self.mounts = [
            Mount(point.target, point.source, "volume" if point.is_volume else "bind", read_only=point.read_only)
            for point in mounts(settings, spec.training_set.folder, folder)
        ]
        self._refuse_missing(settings)
        self.device_requests = self._gpu(settings, spec, owner.labels)
        hand_over(folder, str(self.user))
        for left in self.cli.containers(all=True, filters={"label": as_filter(owner.labels_of_all_tries)}):
            self.log.warning("removing container %s, which an earlier try left", left["Id"][:12])
            self._remove(left["Id"])

    def _refuse_missing(self, settings: Settings) -> None:
        try:
            image = self.cli.inspect_image(self.image)
        except ImageNotFound:
            raise PlatformError(
                f"the engine at {self.docker_url} has no image {self.image} (settings.container.image): "
                "build it from the Dockerfile, target trainer"
            ) from None
        except (AirflowException, RequestException) as error:
            raise ConnectionError(
                f"no Docker engine answers at {self.docker_url} (settings.container.engine_url): {error}. Start it, or "
                "train in processes (settings.training.runtime)"
            ) from None
        self.log.info("image %s, %s", self.image, image["Id"])

    def _gpu(self, settings: Settings, spec: TrainSpec, labels: Mapping[str, str]) -> list[DeviceRequest] | None:
        """A GPU where one is demanded, or there is one and the model can use it: the one that fewest trainers use."""
        from evergreen.models.candidate import frameworks_of
        from evergreen.settings.container import Gpus

        gpus, slots = settings.container.gpus, settings.container.gpu_slots
        if gpus is Gpus.OFF or (gpus is Gpus.AUTO and GPU_FRAMEWORK not in frameworks_of(spec.model, spec.params)):
            return None
        if not self._engine_has_gpus(unknown=gpus is Gpus.ON):
            if gpus is Gpus.AUTO:
                return None
            raise PlatformError(NO_GPU)
        taken = [one["Labels"].get(GPU_LABEL) for one in self.cli.containers(filters={"label": [GPU_LABEL]})]
        chosen = min((str(number) for number in range(slots)), key=taken.count)
        self.labels = {**labels, GPU_LABEL: chosen}
        return [DeviceRequest(device_ids=[chosen], capabilities=[["gpu"]])]

    def _engine_has_gpus(self, *, unknown: bool) -> bool:
        """Whether the engine can hand out GPUs; `unknown` where a broker does not let us ask."""
        try:
            return "nvidia" in self.cli.info().get("Runtimes", {})
        except APIError as error:
            if error.status_code != HTTPStatus.FORBIDDEN:
                raise
            return unknown

    def _train(self, settings: Settings, arguments: list[str]) -> dict[str, Any]:
        from evergreen.platform.containers import exit_in_words, too_long, with_tail

        log, state, late = self._run_to_end(settings, arguments)
        lines = [*log.stdout, *log.stderr]  # why it failed stands on stderr: last, so that it is shown
        output = JobOutput(TRAIN_JOB)
        for line in (*log.stderr, *log.stdout):
            output.add(line)
        code = int(state["ExitCode"])
        if code == 0:
            return output.result()
        if late:
            raise TrainingError(with_tail(too_long(settings), lines))
        output.raise_if_refused()
        out_of_memory = bool(state.get("OOMKilled"))
        why = with_tail(exit_in_words(code, out_of_memory=out_of_memory, settings=settings), lines)
        raise TrainingError(why) if out_of_memory else DockerContainerFailedException(why, logs=list(lines))

    def _run_to_end(self, settings: Settings, arguments: list[str]) -> tuple[ContainerLog, dict[str, Any], bool]:
        """Runs one container and removes it; gives its log, its last state, and whether its time was up."""
        with self._engine_errors():
            self.container = self._create(settings, arguments)
            identifier = self.container["Id"]
            self.log.info("container %s", identifier[:12])
            late = Event()
            limit = Timer(settings.container.seconds, self._end_late, [identifier, late])
            try:
                stream = self.cli.attach(identifier, stdout=True, stderr=True, stream=True, demux=True)
                self.cli.start(identifier)
                limit.start()
                log = read_log(stream, self.log.info)
                self.cli.wait(identifier)
                state: dict[str, Any] = self.cli.inspect_container(identifier)["State"]
            finally:
                limit.cancel()
                self._remove(identifier)
        return log, state, late.is_set()

    def _create(self, settings: Settings, arguments: list[str]) -> dict[str, Any]:
        """Makes the container. The provider's own call knows only CPU shares, which limit nobody, and no walls."""
        limits = settings.container
        created: dict[str, Any] = self.cli.create_container(
            image=self.image,
            entrypoint=self.entrypoint,
            command=arguments,
            user=self.user,
            labels=self.labels,
            environment={"HOME": "/tmp"},
            stop_signal="SIGKILL",  # it has nothing to put in order: what was not finished does not count
            host_config=self.cli.create_host_config(
                mounts=self.mounts,
                network_mode=self.network_mode,
                read_only=True,
                tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={limits.tmp_mib * MIB}"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                mem_limit=limits.memory_bytes,
                memswap_limit=limits.memory_bytes,  # both together: as much as memory alone means no swap
                nano_cpus=limits.nano_cpus,
                pids_limit=limits.pids,
                shm_size=limits.shm_mib * MIB,
                device_requests=self.device_requests,
                log_config=LogConfig(config={"max-size": LOG_SIZE}),
            ),
        )
        return created

    @contextmanager
    def _engine_errors(self) -> Iterator[None]:
        """What the engine refuses is refused again; a connection that broke is worth another try."""
        try:
            yield
        except APIError as error:
            if "could not select device driver" in str(error.explanation):
                raise PlatformError(NO_GPU) from None
            what = f"the engine at {self.docker_url} refused the trainer's container: {error.explanation}"
            raise (PlatformError(what) if error.is_client_error() else RuntimeError(what)) from None
        except RequestException as error:
            raise ConnectionError(f"lost the engine at {self.docker_url}: {error}. The next try starts anew") from None

    def _end_late(self, identifier: str, late: Event) -> None:
        late.set()
        with suppress(DockerException, RequestException):  # it ended at this very moment
            self.cli.kill(identifier)

    def _remove(self, identifier: str) -> None:
        try:
            self.cli.remove_container(identifier, force=True)
        except NotFound:
            pass  # `on_kill` was first
        except (DockerException, RequestException) as error:
            self.log.warning("container %s was not removed, the reaper will: %s", identifier[:12], error)


@dataclass
class ContainerLog:
    """Lines of a container. What order the two streams had among each other, the engine does not promise."""

    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)


def read_log(chunks: Iterable[tuple[bytes | None, bytes | None]], say: Callable[[str], object]) -> ContainerLog:
    """Reads (stdout, stderr) chunks to their end, passing each whole line to `say` as soon as it is there.

    The provider's own reader joins the two streams before it looks for lines, and so tears them.
    """
    log = ContainerLog()
    kept, unfinished = (log.stdout, log.stderr), [b"", b""]

    def take(which: int, line: bytes) -> None:
        if text := line.decode(errors="replace").rstrip():
            say(text)
            kept[which].append(text)

    for pair in chunks:
        for which, chunk in enumerate(pair):
            *whole, unfinished[which] = (unfinished[which] + (chunk or b"")).split(b"\n")
            for line in whole:
                take(which, line)
    for which, line in enumerate(unfinished):
        take(which, line)
    return log
