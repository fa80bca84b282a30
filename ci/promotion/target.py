"""An environment that releases are promoted to, and where they come from."""

from __future__ import annotations

import contextlib
import dataclasses
from functools import cached_property
from pathlib import Path

import msgspec

from ci import publishing, releases
from ci.promotion.services import EcsServices, Services
from ci.workspace import Workspace
from ci_tools import config, kubeflow
from ci_tools.components.references import split
from ci_tools.documents import Promotion, Release
from ci_tools.errors import CIError, ConfigError, WriteError
from ci_tools.images.registry import Registry
from ci_tools.kubeflow import Kubeflow
from ci_tools.promotion import lease
from ci_tools.promotion.bucket_claims import BucketClaims
from ci_tools.promotion.claims import RegistryClaims
from ci_tools.promotion.journal import Journals
from ci_tools.promotion.lease import Claims, Lease
from ci_tools.promotion.records import REPOSITORY, Records
from ci_tools.promotion.s3_slot import S3Slot
from ci_tools.release import bundle as bundles
from ci_tools.release import keys, signing
from ci_tools.release.bundle import Bundle
from ci_tools.release.signing import Signer

RELEASES = publishing.REPOSITORY
FILE = "promotion.json"


class Target:
    """workspace: of the environment. Asks nobody until it has to."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.name = workspace.environment_name
        self.repository = workspace.repository_of(REPOSITORY)
        self.releases = workspace.repository_of(RELEASES)
        self.directory = workspace.home / "promotions" / workspace.project

    @property
    def settings(self) -> config.Promotion:
        """Raises ConfigError where nothing may be promoted to the environment."""
        found = self.workspace.config.environment(self.name).promotion
        if not found.keys:
            raise ConfigError(
                f"environment '{self.name}' allows no key to have signed a release",
                f"Name public keys: environments.{self.name}.promotion.keys in ci.yaml",
            )
        return found

    @property
    def signs(self) -> bool:
        """Whether records of the environment are signed, and unsigned ones not believed."""
        return self.workspace.environment.signing is not None

    @cached_property
    def signer(self) -> Signer | None:
        """Who signs the environment's records; None where nobody does.

        Raises ConfigError, also for a key that the environment itself would not believe;
        CredentialsError and what making a signer raises.
        """
        settings = self.workspace.environment.signing
        if settings is None:
            return None
        made = signing.signer(settings, self.workspace.repository)
        allowed = keys.load_all(self.settings.keys, self.workspace.repository)
        if made.key.id not in {key.id for key in allowed}:
            raise ConfigError(
                f"the key that signs records of '{self.name}' ({made.key.id[:12]}) is none that "
                "it believes",
                f"Name its public key: environments.{self.name}.promotion.keys in ci.yaml",
            )
        return made

    @cached_property
    def registry(self) -> Registry:
        return Registry.of(self.workspace.registry)

    @cached_property
    def records(self) -> Records:
        return Records(self.registry, self.repository, self.name)

    @cached_property
    def journals(self) -> Journals:
        path = self.directory / f"{self.name}.json"
        return Journals(path, self.registry, self.repository, self.name)

    @cached_property
    def lease(self) -> Lease:
        return Lease(self._claims(), self.name, self.directory, timing=lease.TIMING)

    def _claims(self) -> Claims:
        """In the bucket for releases where there is one: its lock is certain."""
        bucket = self.workspace.environment.releases
        if bucket is None:
            return RegistryClaims(self.registry, self.repository, self.name, lease.TIMING)
        slot = S3Slot(bucket, f"locks/{self.workspace.project}/{self.name}.json")
        return BucketClaims(slot, str(slot), lease.TIMING)

    @cached_property
    def kubeflow(self) -> Kubeflow:
        return kubeflow.connect(self.workspace.environment, self.workspace.home)

    @cached_property
    def services(self) -> Services:
        return EcsServices.of(self.workspace)

    def prepare(self, release: Release) -> None:
        """Connect to what a promotion will need: that takes longer than asking it does.
        What cannot be had is told by the step that wants it."""
        with contextlib.suppress(CIError):
            if release.pipelines:
                self.kubeflow.inventory()
        with contextlib.suppress(CIError):
            if release.servables:
                self.services.prepare()

    @cached_property
    def source(self) -> Target | None:
        """The environment that a release comes from; None where ci.yaml names none."""
        after = self.workspace.config.environment(self.name).promotion.after
        if after is None or after == self.name:
            return None
        return Target(dataclasses.replace(self.workspace, environment_name=after))

    def find(self, what: str) -> Bundle:
        """A release by name, commit, digest or path: where it comes from, or here.

        Raises ReleaseNotFoundError, ReleaseSignatureError, RegistryError, CredentialsError.
        """
        if Path(what).exists():
            return bundles.read(Path(what))
        return (self.source or self).published(what)

    def published(self, what: str) -> Bundle:
        """As `find`, in this environment's registry and bucket alone."""
        return releases.published(self.workspace, what, self.registry)

    def tell(self, record: Promotion) -> Promotion:
        """Leave the record in the build directory too, for who shows what came of it. It
        stands in the registry: where it cannot be written here, that is only said."""
        try:
            self.workspace.write(FILE, record)
        except WriteError as error:
            self.workspace.console.warn(error.what)
        return record

    def registry_of(self, host: str) -> Registry:
        """The registry of an image, with the settings of the environment that it is of."""
        for one in (self, self.source):
            if one is not None and one.registry.host == host:
                return one.registry
        return Registry(host)

    def moves(self, release: Release) -> dict[str, str]:
        """Reference of each image of a release -> the one that it has in this environment."""
        host = self.registry.host
        return {
            image.reference: f"{host}/{self.workspace.repository_of(name)}@{image.digest}"
            for name, image in sorted(release.images.items())
        }

    def relocated(self, release: Release) -> Release:
        """The same release, its images named as they are in this environment."""
        moves = self.moves(release)
        return msgspec.structs.replace(
            release,
            images={
                name: msgspec.structs.replace(image, reference=moves[image.reference])
                for name, image in release.images.items()
            },
            servables={
                name: msgspec.structs.replace(one, image=moves.get(one.image, one.image))
                for name, one in release.servables.items()
            },
        )

    def images(self, release: Release) -> dict[str, str]:
        """Component -> reference in this environment."""
        moves = self.moves(release)
        return {name: moves[image.reference] for name, image in sorted(release.images.items())}


def repository_in(reference: str) -> tuple[str, str]:
    """Host and path of an image's reference."""
    parts = split(reference)
    return parts.registry, parts.path
