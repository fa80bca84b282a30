"""Build secrets: where they are looked for, and that no value is told."""

from __future__ import annotations

import csv
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import NoCredentialsError, NoRegionError
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import config
from ci_tools.config import BuildSecret
from ci_tools.errors import CIError, ConfigError, CredentialsError
from ci_tools.images.secrets import Secrets

ARN = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:pypi-AbCdEf"
VALUE = "hunter2-hunter2"


@pytest.fixture
def stub() -> Stubber:
    client = boto3.client(
        "secretsmanager", region_name="x", aws_access_key_id="x", aws_secret_access_key="x"
    )
    stubber = Stubber(client)
    stubber.activate()
    return stubber


@pytest.fixture
def asked(stub: Stubber) -> Callable[..., Secrets]:
    """Secrets that ask the stub. regions: of the clients that were made."""

    def made(**declared: BuildSecret) -> Secrets:
        return Secrets(declared, client=lambda region: regions.append(region) or stub.client)

    regions: list[str | None] = []
    made.regions = regions  # type: ignore[attr-defined]
    return made


def test_a_plain_string_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "netrc").write_text(f"[short]\npassword {VALUE}\n")
    offered = Secrets({"netrc": "~/netrc", "same": BuildSecret(file="~/netrc")}).offered()
    assert offered.options == [
        f"--secret=id=netrc,src={tmp_path}/netrc",
        f"--secret=id=same,src={tmp_path}/netrc",
    ]
    assert offered.environment == {}
    assert offered.hidden == [f"password {VALUE}"]


def test_a_variable_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", f" {VALUE}\nsecond line\n")
    offered = Secrets({"token": BuildSecret(env="TOKEN")}).offered()
    assert offered.options == ["--secret=id=token,env=TOKEN"]
    assert offered.environment == {}  # the child has it from us
    assert set(offered.hidden) == {
        f" {VALUE}\nsecond line\n",
        f"{VALUE}\nsecond line",
        VALUE,
        "second line",
    }


def test_secrets_of_aws_are_fetched_once_and_late(
    stub: Stubber, asked: Callable[..., Secrets]
) -> None:
    run = asked(
        user=BuildSecret(aws=ARN, key="user"),
        password=BuildSecret(aws=ARN, key="password"),
        port=BuildSecret(aws=ARN, key="port"),
        whole=BuildSecret(aws="plain"),
    )
    regions = asked.regions  # type: ignore[attr-defined]
    assert regions == []
    text = f'{{"user": "somebody", "password": "{VALUE}", "port": 8080}}'
    stub.add_response("get_secret_value", {"SecretString": text}, {"SecretId": ARN})
    stub.add_response("get_secret_value", {"SecretString": "other"}, {"SecretId": "plain"})
    with ThreadPoolExecutor(8) as pool:
        (offered,) = {id(one): one for one in pool.map(lambda _: run.offered(), range(8))}.values()
    stub.assert_no_pending_responses()
    assert regions == ["eu-central-1", None]
    assert offered.options == [
        "--secret=id=password,env=KFP_CI_SECRET_0",
        "--secret=id=port,env=KFP_CI_SECRET_1",
        "--secret=id=user,env=KFP_CI_SECRET_2",
        "--secret=id=whole,env=KFP_CI_SECRET_3",
    ]
    assert list(offered.environment.values()) == [VALUE, "8080", "somebody", "other"]
    assert {VALUE, "somebody", "other"} <= set(offered.hidden)
    assert VALUE not in repr(offered)


def test_a_dry_run_looks_nothing_up() -> None:
    def nobody(region: str | None) -> Any:
        raise AssertionError("asked")

    declared = {
        "a": BuildSecret(aws=ARN),
        "f": BuildSecret(file="/none/here"),
        "v": BuildSecret(env="NONE_SUCH"),
    }
    offered = Secrets(declared, ["key=/none/id"], dry_run=True, client=nobody).offered()
    assert offered.options == [
        "--secret=id=a,env=KFP_CI_SECRET_0",
        "--secret=id=f,src=/none/here",
        "--secret=id=v,env=NONE_SUCH",
        "--ssh=key=/none/id",
    ]
    assert (offered.environment, offered.hidden) == ({}, [])


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (BuildSecret(file="/none/here"), "/none/here"),
        (BuildSecret(file="/"), "cannot be read"),
        (BuildSecret(env="NONE_SUCH"), "NONE_SUCH"),
    ],
)
def test_what_is_not_there_is_named(secret: BuildSecret, words: str) -> None:
    with pytest.raises(ConfigError, match=f"'token'.*{words}"):
        Secrets({"token": secret}).offered()


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("ResourceNotFoundException", ConfigError, "not in Secrets Manager"),
        ("AccessDeniedException", CredentialsError, "secretsmanager:GetSecretValue"),
        ("DecryptionFailure", CredentialsError, "kms:Decrypt"),
        ("InternalServiceError", CredentialsError, "InternalServiceError"),
    ],
)
def test_what_aws_refuses(
    stub: Stubber, asked: Callable[..., Secrets], code: str, error: type[CIError], words: str
) -> None:
    stub.add_client_error("get_secret_value", code)
    with pytest.raises(error) as caught:
        asked(token=BuildSecret(aws=ARN)).offered()
    assert words in str(caught.value)
    assert "'token'" in caught.value.what
    assert ARN in caught.value.what


@pytest.mark.parametrize("problem", [NoCredentialsError(), NoRegionError()])
def test_a_machine_without_credentials_or_region(problem: Exception) -> None:
    def none(region: str | None) -> Any:
        raise problem

    with pytest.raises(CredentialsError, match="'token'"):
        Secrets({"token": BuildSecret(aws="pypi")}, client=none).offered()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"SecretBinary": b"\x00"}, "binary"),
        ({"SecretString": VALUE}, "no JSON object"),
        ({"SecretString": f'["{VALUE}"]'}, "no JSON object"),
        ({"SecretString": f'{{"b": "{VALUE}", "c": 1}}'}, "holds only b, c"),
        ({"SecretString": f'{{"a": ["{VALUE}"]}}'}, "has no text"),
        ({"SecretString": '{"a": null}'}, "has no text"),
        ({"SecretString": '{"a": true}'}, "has no text"),
    ],
)
def test_a_field_that_is_not_there_is_named_and_no_value_told(
    stub: Stubber, asked: Callable[..., Secrets], answer: dict[str, Any], words: str
) -> None:
    stub.add_response("get_secret_value", answer)
    with pytest.raises(ConfigError) as caught:
        asked(token=BuildSecret(aws=ARN, key="a")).offered()
    assert words in caught.value.what
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_ssh_is_an_agent_or_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "id"
    key.write_text("")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert Secrets({}, [f"deploy={key}"]).offered().options == [f"--ssh=deploy={key}"]
    with pytest.raises(ConfigError, match="none runs"):
        Secrets({}, ["default"]).offered()
    with pytest.raises(ConfigError, match="not there"):
        Secrets({}, [f"deploy={key}x"]).offered()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(key))
    assert Secrets({}, ["default"]).offered().options == ["--ssh=default"]


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), min_size=1)
    | st.sampled_from(["a,b", 'a"b', "~nobody-here/x", '"', ","])
)
def test_any_path_reaches_buildx_whole(path: str) -> None:
    """buildx reads the option with a CSV reader."""
    (option,) = Secrets({"x": f"/{path}"}, dry_run=True).offered().options
    (fields,) = csv.reader([option.removeprefix("--secret=")], strict=True)
    assert fields == ["id=x", f"src={Path(f'/{path}')}"]


def test_a_home_that_nobody_has() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Secrets({"x": "~nobody-here/x"}).offered()


def test_a_part_of_another_secret_does_not_save_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "a-long-secret")
    monkeypatch.setenv("B", "a-long-secret-tail\nand a line of its own")
    run = Secrets({name: BuildSecret(env=name.upper()) for name in "ab"})
    log = "#5 a-long-secret-tail\n#5 and a line of its own\n#6 a-long-secret\n"
    for value in run.offered().hidden:  # as process.run does
        log = log.replace(value, "***")
    assert log == "#5 ***\n#5 ***\n#6 ***\n"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{file: a, env: B}",
        "{env: B, aws: c}",
        "{env: B, key: k}",
        "{env: 'a b'}",
        "{aws: 'arn:aws:ssm:x'}",
        "{key: k}",
        "3",
    ],
)
def test_a_secret_is_in_exactly_one_place(repository: Any, text: str) -> None:
    repository.write("ci.yaml", f"build: {{secrets: {{token: {text}}}}}\n")
    with pytest.raises(ConfigError, match=r"ci\.yaml: "):
        config.load(repository.root)


def test_an_unknown_key_of_a_secret_names_the_nearest(repository: Any) -> None:
    repository.write("ci.yaml", "build: {secrets: {token: {enf: A}}}\n")
    with pytest.raises(ConfigError, match="Did you mean 'env'"):
        config.load(repository.root)


def test_all_places_are_read(repository: Any) -> None:
    repository.write(
        "ci.yaml",
        f"build:\n  ssh: [default, 'k=~/.ssh/id']\n  secrets:\n    a: ~/a\n    b: {{file: b}}\n"
        f"    c: {{env: C}}\n    d: {{aws: '{ARN}', key: k}}\n",
    )
    build = config.load(repository.root).build
    assert build.ssh == ["default", "k=~/.ssh/id"]
    assert build.secrets == {
        "a": "~/a",
        "b": BuildSecret(file="b"),
        "c": BuildSecret(env="C"),
        "d": BuildSecret(aws=ARN, key="k"),
    }
