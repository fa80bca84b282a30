"""Score a batch with a model that `training` made. Plain kfp.

The model comes by URI through an importer, so Kubeflow knows which run it is
from. On a cluster the URI is that of the object store (s3://, gs://, minio://).
`kfp.local` downloads nothing: there the URI is the path of a file under the
pipeline root, for instance the `model` of an earlier local run of `training`.
"""

# No "from __future__ import annotations" here: kfp reads the annotations as types.
from pathlib import Path
from typing import NamedTuple

from kfp import components, dsl

SPECS = Path(__file__).resolve().parent.parent / "component_specs"

extract = components.load_component_from_file(str(SPECS / "extract.yaml"))
score = components.load_component_from_file(str(SPECS / "score.yaml"))


class Outputs(NamedTuple):
    predictions: dsl.Dataset
    rows: int


@dsl.pipeline(
    name="batch-scoring",
    description="Scores the data set with a model named by URI and SHA-256.",
)
def batch_scoring(model_uri: str, model_sha256: str) -> Outputs:
    """Score a batch.

    Args:
        model_uri: where the model's file is.
        model_sha256: SHA-256 of its bytes in hex; another file is not loaded.
    """
    model = dsl.importer(artifact_uri=model_uri, artifact_class=dsl.Model, reimport=False)
    scored = score(
        model=model.output, model_sha256=model_sha256, dataset=extract().outputs["dataset"]
    )
    return Outputs(predictions=scored.outputs["predictions"], rows=scored.outputs["rows"])
