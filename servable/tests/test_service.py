from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from prediction.model import obtain
from prediction.service import MAX_BODY_BYTES, MAX_INSTANCES, create


@pytest.fixture
def client(model_file: tuple[str, str]) -> TestClient:
    return TestClient(create(obtain(*model_file)))


def test_health_and_metadata(client: TestClient, model_file: tuple[str, str]) -> None:
    assert client.get("/healthz").status_code == 200
    metadata = client.get("/metadata").json()
    assert (metadata["model_uri"], metadata["model_sha256"]) == model_file
    assert metadata["features"] == ["age", "size"]
    assert metadata["classes"] == {"0": "benign", "1": "malignant"}


def test_records_are_read_by_name_and_lists_in_order(
    client: TestClient, model_file: tuple[str, str]
) -> None:
    by_name = client.post(
        "/predict", json={"instances": [{"size": 9, "age": 50}, {"age": 50, "size": 1.5}]}
    )
    in_order = client.post("/predict", json={"instances": [[50, 9], [50, 1.5]]})
    assert by_name.status_code == in_order.status_code == 200
    assert by_name.json() == in_order.json()
    answer = by_name.json()
    assert answer["predictions"] == [1, 0]
    assert answer["probabilities"][0] > 0.5 > answer["probabilities"][1]
    assert answer["model_sha256"] == model_file[1]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "{}",
        "[]",
        '{"instances": []}',
        '{"instances": {}}',
        '{"instances": [[50]]}',
        '{"instances": [[50, 9, 1]]}',
        '{"instances": [[50, "9"]]}',
        '{"instances": [[50, true]]}',
        '{"instances": [[50, null]]}',
        '{"instances": [[50, NaN]]}',
        '{"instances": [[50, -Infinity]]}',
        '{"instances": [[50, 1e400]]}',
        '{"instances": [[50, 1e300]]}',
        f'{{"instances": [[50, 1{"0" * 400}]]}}',
        '{"instances": [[50, [9]]]}',
        '{"instances": [{"age": 50}]}',
        '{"instances": [{"age": 50, "size": 9, "name": 1}]}',
        '{"instances": [{"age": 50, "size": NaN}]}',
        '{"instances": [[50, 9], {"age": 50, "size": 9}]}',
        '{"instances": [[50, 9]], "more": 1}',
        f'{{"instances": [{",".join(["[50,9]"] * (MAX_INSTANCES + 1))}]}}',
    ],
)
def test_bad_input_is_422(client: TestClient, body: str) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert len(answer.content) < 4000


def test_a_refusal_does_not_repeat_the_record(client: TestClient) -> None:
    answer = client.post("/predict", json={"instances": [[50, "8675309"]]})
    assert answer.status_code == 422
    assert "8675309" not in answer.text


def test_the_largest_numbers_still_give_a_probability(client: TestClient) -> None:
    answer = client.post("/predict", json={"instances": [[1e100, 1e100], [-1e100, -1e100]]})
    assert answer.status_code == 200
    assert all(0 <= probability <= 1 for probability in answer.json()["probabilities"])


def test_deep_nesting_is_refused(client: TestClient) -> None:
    body = '{"instances": ' + "[" * 200_000
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


def test_a_large_body_is_413_whether_or_not_it_says_so(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(3):
            yield b" " * (MAX_BODY_BYTES // 2)

    headers = {"content-type": "application/json"}
    whole = client.post("/predict", content=b" " * (MAX_BODY_BYTES + 1), headers=headers)
    assert whole.status_code == 413
    assert client.post("/predict", content=chunks(), headers=headers).status_code == 413
