"""`deploy`: the whole platform in containers of this machine."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from evergreen.cli.console import console, print_json, progress_console, seconds
from evergreen.cli.options import AsJson


def deploy(
    profile: Annotated[Literal["compose"], typer.Option("--profile", help="Where to.")] = "compose",
    environment: Annotated[
        Literal["production", "staging"],
        typer.Option("--environment", help="Each has containers, volumes, secrets and ports of its own."),
    ] = "production",
    gpu: Annotated[
        Literal["auto", "on", "off"], typer.Option("--gpu", help="`on` refuses to start where the engine has none.")
    ] = "auto",
    monitoring: Annotated[bool, typer.Option("--monitoring", help="Prometheus and Grafana too.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the release before.")] = False,
    secrets: Annotated[bool, typer.Option("--secrets", help="Only make the secrets that are missing.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only look whether it could start.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, build the images, start the platform, wait until it is healthy and try its doors."""
    from evergreen.deploy.stack import Options, Stack

    stack = Stack.open(Options(environment, gpu, monitoring), say=lambda text: progress_console.print(f"  {text}"))
    if secrets:
        made = stack.secrets.make()
        stack.secrets.check()
        console.print(f"{stack.secrets.folder}: {', '.join(made) if made else 'all there'}", soft_wrap=True)
        return
    if check:
        stack.secrets.check()
        stack.check()
        console.print(f"{environment} could start here ({profile})")
        return
    release = stack.rollback() if rollback else stack.deploy()
    airflow, serving = stack.urls
    if as_json:
        print_json({**release, "airflow": airflow, "serving": serving})
        return
    steps = ", ".join(f"{name} {seconds(value)}" for name, value in release["seconds"].items())
    console.print(f"{environment} {release['tag']}: {steps}")
    console.print(f"Airflow  {airflow}  (admin, approver, operator, viewer: passwords in {stack.secrets.folder})")
    console.print(f"serving  {serving}/health")
    if monitoring:
        console.print(f"Grafana  {stack.grafana_url}  (admin: password in {stack.secrets.folder / 'grafana_password'})")
