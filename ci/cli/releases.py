"""The commands about releases that were published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ci.cli.group import cli
from ci.cli.options import stage
from ci.cli.show import print_json, show, show_lines

if TYPE_CHECKING:
    from ci.workspace import Workspace

_WHAT = click.argument("what", metavar="RELEASE")
_PATH = click.Path(dir_okay=False, path_type=Path)


@cli.group()
def releases() -> None:
    """Releases that were published: which there are, and who signed one.

    RELEASE: its name or commit (seven characters of it do), its digest in the
    registry, or the path of its bundle.
    """


@releases.command(name="list")
@stage
def list_(workspace: Workspace, as_json: bool) -> None:
    """Show all releases in the registry, the newest commit first."""
    from ci import releases as stage

    listing = stage.list_(workspace)
    show(listing, stage.list_lines(listing), as_json)


@releases.command(name="show")
@stage
@_WHAT
def show_(workspace: Workspace, as_json: bool, what: str) -> None:
    """Show what a release holds."""
    from ci import releases as stage

    release = stage.find(workspace, what).release
    show(release, stage.show_lines(release), as_json)


@releases.command()
@stage
@_WHAT
@click.option("--key", "keys", type=_PATH, multiple=True, help="A public key to believe instead.")
@click.option("--to", "target", metavar="ENV", help="The environment whose keys count.")
def verify(
    workspace: Workspace, as_json: bool, what: str, keys: tuple[Path, ...], target: str | None
) -> None:
    """Say which allowed keys signed a release; fail where none did."""
    from ci import releases as stage

    done = stage.verify(workspace, what, public=keys, target=target)
    show(done, [f"{done.name} is signed by {', '.join(done.signed_by)}"], as_json)


@releases.command()
@stage
@_WHAT
@click.argument("path", type=click.Path(path_type=Path))
def get(workspace: Workspace, as_json: bool, what: str, path: Path) -> None:
    """Write a release's bundle to PATH: one file where it ends in .tar, else a folder."""
    from ci import releases as stage
    from ci_tools.release import bundle

    found = stage.find(workspace, what)
    name = found.release.name  # is it one? before anything is written
    lines = [f"{name}  {path}"]
    if workspace.dry_run:
        show_lines(lines, as_json)
        return
    bundle.write(found, path)
    if as_json:
        print_json({"name": name, "path": str(path)})
    else:
        click.echo(lines[0])


@releases.command()
@click.argument("path", type=_PATH)
@click.option(
    "--passphrase-env",
    metavar="VARIABLE",
    default="KFP_CI_PASSPHRASE",
    show_default=True,
    help="The variable that holds the passphrase.",
)
@click.option("--type", "kind", type=click.Choice(["ed25519", "ecdsa"]), default="ed25519")
def keygen(path: Path, passphrase_env: str, kind: str) -> None:
    """Make a key pair for signing: PATH, encrypted, and PATH.pub.

    The private key belongs among the CI server's credentials, the public one in
    the repository.
    """
    from ci_tools.release import keygen as making

    key = making.generate(path, passphrase_env, kind)
    click.echo(f"private  {path}\npublic   {path}.pub\nid       {key.id}")
