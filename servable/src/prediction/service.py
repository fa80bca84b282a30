"""The HTTP interface of one model.

GET  /healthz   200 as soon as a verified model is loaded
GET  /metadata  which model, which features
POST /predict   {"instances": [{feature: value, ...}, ...]}, or each instance a
                list of values in the order of the features
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prediction import __version__
from prediction.model import Model

MAX_BODY_BYTES = 1024 * 1024
MAX_INSTANCES = 1000
CLASSES = {"0": "benign", "1": "malignant"}
_ERRORS_SHOWN = 10

# Beyond any measurement, and small enough for the model's arithmetic to stay finite.
_LARGEST = 1e100
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)]


class Instances(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instances: Annotated[
        list[dict[str, Number]] | list[list[Number]],
        Field(min_length=1, max_length=MAX_INSTANCES),
    ]


class Predictions(BaseModel):
    """One prediction and one probability (of class 1) an instance, in order."""

    model_config = ConfigDict(protected_namespaces=())

    predictions: list[int]
    probabilities: list[float]
    model_sha256: str


def create(model: Model) -> FastAPI:
    """The application that serves `model`."""
    app = FastAPI(title="prediction", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES)

    @app.exception_handler(RequestValidationError)
    def refuse(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not FastAPI's own handler: that one repeats the input, which is a
        # patient's record, and fails where the input holds NaN.
        details = [{"loc": item["loc"], "msg": item["msg"]} for item in error.errors()]
        return JSONResponse({"detail": details[:_ERRORS_SHOWN]}, status_code=422)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metadata")
    def metadata() -> dict[str, Any]:
        return {
            "version": __version__,
            "model_uri": model.uri,
            "model_sha256": model.sha256,
            "features": model.feature_names,
            "classes": CLASSES,
            "trained_with": model.trained_with,
        }

    @app.post("/predict")
    def predict(request: Instances) -> Predictions:
        try:
            rows = to_rows(request.instances, model.feature_names)
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        probabilities = model.probabilities(rows)
        return Predictions(
            predictions=(probabilities >= 0.5).astype(int).tolist(),
            probabilities=probabilities.tolist(),
            model_sha256=model.sha256,
        )

    return app


def to_rows(
    instances: list[dict[str, float]] | list[list[float]], feature_names: list[str]
) -> np.ndarray:
    """Instances as rows of features in order.

    Raises ValueError for the first instance that has not exactly these features.
    """
    rows = []
    for number, instance in enumerate(instances):
        if isinstance(instance, dict):
            if unknown := [name for name in instance if name not in feature_names]:
                raise ValueError(f"instance {number}: unknown feature {unknown[0][:80]!r}")
            if missing := [name for name in feature_names if name not in instance]:
                raise ValueError(f"instance {number}: missing feature {missing[0]!r}")
            rows.append([instance[name] for name in feature_names])
        elif len(instance) != len(feature_names):
            raise ValueError(
                f"instance {number}: {len(instance)} values, expected {len(feature_names)}"
            )
        else:
            rows.append(instance)
    return np.array(rows, dtype=float)


class BodyLimit:
    """ASGI middleware: 413 for a body of more than `limit` bytes, declared or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, f"the body is larger than {self.limit} bytes")
            return message

        await self.app(scope, counted, send)
