"""Train and judge the model. Plain kfp: nothing here knows of CI."""

# No "from __future__ import annotations" here: kfp reads the annotations as types.
from pathlib import Path
from typing import NamedTuple

from kfp import components, dsl

SPECS = Path(__file__).resolve().parent.parent / "component_specs"

extract = components.load_component_from_file(str(SPECS / "extract.yaml"))
preprocess = components.load_component_from_file(str(SPECS / "preprocess.yaml"))
train = components.load_component_from_file(str(SPECS / "train.yaml"))
evaluate = components.load_component_from_file(str(SPECS / "evaluate.yaml"))


class Outputs(NamedTuple):
    model: dsl.Model
    model_sha256: str
    accuracy: float
    roc_auc: float
    recall: float


@dsl.pipeline(
    name="training",
    description="Fits the breast-cancer model and judges it on rows it has not seen.",
)
def training(test_fraction: float = 0.25, seed: int = 7, regularisation: float = 1.0) -> Outputs:
    """Train and judge a model.

    Args:
        test_fraction: share of the rows kept for the test, above 0 and below 1.
        seed: decides which rows those are.
        regularisation: C of the logistic regression, above 0; smaller is stronger.
    """
    data = extract()
    parts = preprocess(dataset=data.outputs["dataset"], test_fraction=test_fraction, seed=seed)
    fitted = train(train_data=parts.outputs["train_data"], regularisation=regularisation)
    judged = evaluate(
        model=fitted.outputs["model"],
        model_sha256=fitted.outputs["model_sha256"],
        test_data=parts.outputs["test_data"],
    )
    return Outputs(
        model=fitted.outputs["model"],
        model_sha256=fitted.outputs["model_sha256"],
        accuracy=judged.outputs["accuracy"],
        roc_auc=judged.outputs["roc_auc"],
        recall=judged.outputs["recall"],
    )
