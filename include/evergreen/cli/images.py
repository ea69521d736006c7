"""`images`: build what containers are made from, and say what is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evergreen import __version__
from evergreen.cli.console import console, print_json, progress_console, seconds
from evergreen.cli.options import AsJson
from evergreen.deploy.images import TARGETS, Torch, find_docker, image_name
from evergreen.deploy.images import build as build_image

images = typer.Typer(help="Container images: build them, and write what is in them.", no_args_is_help=True)

SERVICES = ("airflow", "trainer", "serving", "broker")
Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help=f"Of {', '.join(TARGETS)}. Default: all but dev."),
]

Tag = Annotated[str, typer.Option("--tag", metavar="TAG", help="Tag of the images.")]


def _chosen(targets: list[str] | None) -> list[str]:
    if unknown := sorted(set(targets or ()) - set(TARGETS)):
        raise typer.BadParameter(f"{', '.join(unknown)}: no such image, expected some of {', '.join(TARGETS)}")
    return list(targets or SERVICES)


@images.command("build")
def build(
    targets: Targets = None,
    torch: Annotated[Torch, typer.Option("--torch", help="Which torch the trainer gets.")] = Torch.NONE,
    tag: Tag = __version__,
    as_json: AsJson = False,
) -> None:
    """Build images with this machine's own package indexes and certificates, none of which reaches a layer."""
    chosen, docker, built = _chosen(targets), find_docker(), []
    for target in chosen:
        progress_console.print(f"building {image_name(target, tag)}")
        built.append(one := build_image(target, torch=torch, version=tag, docker=docker))
        if not as_json:
            console.print(
                f"{one.name}  {one.size_bytes / 1e6:,.0f} MB  {seconds(one.seconds)}  {one.id}", soft_wrap=True
            )
    if as_json:
        print_json([vars(one) for one in built])


@images.command("sbom")
def sbom(
    targets: Targets = None,
    tag: Tag = __version__,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where TARGET.cdx.json is written.")] = Path(
        "dist/sbom"
    ),
) -> None:
    """Write a CycloneDX document for each image: its lock with hashes, and the Debian packages that are in it."""
    from evergreen.deploy import sbom as documents

    chosen, docker = _chosen(targets), find_docker()
    out.mkdir(parents=True, exist_ok=True)
    for target in chosen:
        document = documents.sbom(target, image_name(target, tag), docker)
        file = out / f"{target}.cdx.json"
        file.write_text(json.dumps(document, indent=1) + "\n")
        console.print(f"{file}  {len(document['components'])} components", soft_wrap=True)
