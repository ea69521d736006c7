"""`deploy`: the whole platform in containers of this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from evergreen.cli.console import console, print_json, progress_console, seconds
from evergreen.cli.options import AsJson
from evergreen.errors import DeployError

if TYPE_CHECKING:
    from evergreen.deploy.releases import Release
    from evergreen.deploy.stack import Stack


def deploy(
    kinds: Annotated[list[str] | None, typer.Argument(metavar="KIND", help="With --drill: which; default all.")] = None,
    profile: Annotated[Literal["compose"], typer.Option("--profile", help="Where to.")] = "compose",
    environment: Annotated[
        Literal["production", "staging"],
        typer.Option("--environment", help="Each has containers, volumes, secrets and ports of its own."),
    ] = "production",
    gpu: Annotated[
        Literal["auto", "on", "off"], typer.Option("--gpu", help="`on` refuses to start where the engine has none.")
    ] = "auto",
    monitoring: Annotated[bool, typer.Option("--monitoring", help="Prometheus and Grafana too.")] = False,
    snapshot: Annotated[
        Literal["all", "databases", "none"],
        typer.Option("--snapshot", help="What is kept before anything is changed; `all`: databases and home."),
    ] = "all",
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the release before.")] = False,
    databases: Annotated[
        bool, typer.Option("--databases", help="With --rollback: put databases back as they were before the release.")
    ] = False,
    drill: Annotated[
        bool,
        typer.Option("--drill", help="Make changes of each KIND, go back from each, and compare with before."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --drill: elsewhere than on staging too.")] = False,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Only look how the running containers are confined.")
    ] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="Only make the secrets that are missing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only look whether it could start.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, build the images, start the platform, wait until it is healthy and try its doors.

    Before anything of a running environment is changed, a snapshot of it is taken.
    """
    from evergreen.deploy.back import roll_back
    from evergreen.deploy.snapshot import Parts
    from evergreen.deploy.stack import Options, Stack

    modes = {"--rollback": rollback, "--drill": drill, "--inspect": inspect, "--secrets": secrets, "--check": check}
    if len(given := [name for name, wanted in modes.items() if wanted]) > 1:
        raise DeployError(f"{' and '.join(given)} were given together: expected one of them")
    if (databases and not rollback) or (kinds and not drill):
        raise DeployError("--databases goes with --rollback, and a KIND with --drill: expected that option too")
    stack = Stack.open(Options(environment, gpu, monitoring), say=lambda text: progress_console.print(f"  {text}"))
    if secrets:
        made = stack.secrets.make()
        stack.secrets.check()
        console.print(f"{stack.secrets.folder}: {', '.join(made) if made else 'all there'}", soft_wrap=True)
    elif check:
        if stack.secrets.folder.exists():  # `deploy` makes them where there are none yet
            stack.secrets.check()
        stack.check()
        console.print(f"{environment} could start here ({profile})")
    elif inspect:
        _inspect(stack, as_json=as_json)
    elif drill:
        _drill(stack, kinds or [], anywhere=yes, as_json=as_json)
    else:
        release = roll_back(stack, databases=databases) if rollback else stack.deploy(Parts(snapshot))
        _show(stack.under(release), release, as_json=as_json)


def _show(stack: Stack, release: Release, *, as_json: bool) -> None:
    airflow, serving = stack.urls
    if as_json:
        print_json({**release.document(), "airflow": airflow, "serving": serving})
        return
    steps = ", ".join(f"{name} {seconds(value)}" for name, value in release.seconds.items())
    console.print(f"{stack.options.environment} {release.tag}: {steps}")
    console.print(f"Airflow  {airflow}  (admin, approver, operator, viewer: passwords in {stack.secrets.folder})")
    console.print(f"serving  {serving}/health")
    if stack.options.monitoring:
        console.print(f"Grafana  {stack.grafana_url}  (admin: password in {stack.secrets.folder / 'grafana_password'})")


def _inspect(stack: Stack, *, as_json: bool) -> None:
    """Raises DeployError where a container is not confined and no exception says why."""
    from evergreen.deploy.inspection import inspect

    found = inspect(stack.engine, stack.project)
    if not found:
        raise DeployError(f"no container of {stack.options.environment} runs: ./evergreen deploy starts it")
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        table = Table()
        for heading in ("service", "user", "as root", "read-only", "more", "GiB", "pids", "judged"):
            table.add_column(heading, no_wrap=True)
        for one in found:
            judged = "[red]not confined[/]" if one.problems else "exception" if one.exception else "confined"
            table.add_row(
                one.service,
                one.user.partition(":")[0],
                str(one.root_processes),
                "yes" if one.read_only else "[red]no[/]",
                str(len(one.capabilities)),
                f"{one.memory_bytes / 2**30:.1f}",
                str(one.pids),
                judged,
            )
        console.print(table)
        console.print(
            "as root: processes that run so; more: capabilities beyond none; GiB and pids: limits", soft_wrap=True
        )
        for one in found:
            if one.problems:
                console.print(f"  {one.service}: {'; '.join(one.problems)}", soft_wrap=True, markup=False)
            elif one.exception:
                allowed = ", ".join(one.capabilities)
                console.print(f"  {one.service}: {one.exception}; may {allowed}", soft_wrap=True, markup=False)
    if bad := [one for one in found if one.problems]:
        raise DeployError(
            f"{len(bad)} of {len(found)} containers are not confined: {bad[0].service} {bad[0].problems[0]}"
        )


def _drill(stack: Stack, kinds: list[str], *, anywhere: bool, as_json: bool) -> None:
    """Raises DeployError where a drill did not pass."""
    from evergreen.deploy.drill import LIMIT_SECONDS, run_drills, write_record
    from evergreen.settings.tree import PROJECT

    done = run_drills(stack, kinds, anywhere=anywhere)
    file = PROJECT / "benchmarks" / "rollback-drills.json"
    write_record(stack, done, file)
    if as_json:
        print_json([{**asdict(one), "passed": one.passed} for one in done])
    else:
        table = Table()
        for heading in ("kind", "change made", "gone back", "validated", "compared", "passed"):
            table.add_column(heading, no_wrap=True, justify="right" if heading[-1] == "d" else "left")
        for one in done:
            times = [seconds(value) for value in (one.change_seconds, one.back_seconds, one.validate_seconds)]
            passed = "[green]yes[/]" if one.passed else "[red]no[/]"
            table.add_row(one.kind, *times, f"{one.compared} values", passed)
        console.print(table)
        for one in done:
            why = "" if one.passed else f"; {one.problem or ', '.join(one.left) or 'too slow'}"
            console.print(f"  {one.kind}: {one.change}{why}", markup=False)
        console.print(f"written to {file}", soft_wrap=True)
    if bad := [one for one in done if not one.passed]:
        why = bad[0].problem or ", ".join(bad[0].left) or f"took more than {seconds(LIMIT_SECONDS)}"
        raise DeployError(f"{len(bad)} of {len(done)} drills did not pass: {bad[0].kind}: {why}")
