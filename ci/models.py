"""The model that a servable serves."""

from __future__ import annotations

from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.config_training import DEFAULT
from ci_tools.documents import Model, Training
from ci_tools.errors import ConfigError, MissingInputError, ServiceError
from ci_tools.file_uri import path_of
from ci_tools.serving.declaration import Servable


def of(workspace: Workspace, servable: Servable) -> Model | None:
    """The model a servable serves: the file it names, or what a pipeline's run made.

    Raises MissingInputError when that run has not been, failed, or left the artifact
    without a hash, and ConfigError when it made no artifact of that name.
    """
    source = servable.model
    if source is None:
        return None
    if source.uri and source.sha256:
        return Model(uri=source.uri, sha256=source.sha256)
    from ci import train as training  # a promotion, whose release has the models, does without

    done = workspace.read(training.FILE, Training, made_by="train")
    again = f"Run 'python -m ci train {source.pipeline}'"
    runs = [run for run in done.runs if run.pipeline == source.pipeline]
    runs.sort(key=lambda run: run.test == DEFAULT)  # of several tests its model is the one
    if not runs or not runs[-1].passed:
        raise MissingInputError(
            f"'{servable.service}' serves the model of '{source.pipeline}', "
            "which has no successful run",
            again,
        )
    artifact = runs[-1].artifacts.get(source.artifact or "")
    if artifact is None:
        made = ", ".join(sorted(runs[-1].artifacts)) or "none"
        raise ConfigError(
            f"'{servable.service}' serves the artifact '{source.artifact}' of "
            f"'{source.pipeline}', whose run made no such one; it made: {made}",
            "Mend model.artifact in servable.yaml, or return the artifact from the pipeline",
        )
    if artifact.sha256 is None:
        raise MissingInputError(
            f"of the artifact '{source.artifact}' that the run of '{source.pipeline}' made "
            "no hash is known",
            again,
        )
    return _settled(workspace, Model(uri=artifact.uri, sha256=artifact.sha256))


def _settled(workspace: Workspace, model: Model) -> Model:
    """A model at an address that follows from its content.

    A run's own directory is new with every run, and would make an equal model
    look like a change of the service. Only files of this machine are moved.
    """
    source = path_of(model.uri)
    if source is None:
        return model
    settled = workspace.home / "models" / model.sha256 / source.name
    if not settled.exists() and not workspace.dry_run:
        try:
            content = source.read_bytes()
        except OSError as error:
            raise ServiceError(
                f"the model {source} cannot be read ({error.strerror})",
                "Run 'python -m ci train' again",
            ) from error
        storage.write_bytes(settled, content)
    return Model(uri=settled.as_uri(), sha256=model.sha256)
