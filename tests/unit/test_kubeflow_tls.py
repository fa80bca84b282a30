"""TLS to Kubeflow: the real `kfp.Client` against real TLS servers on loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools import config
from ci_tools.errors import CIError, ConfigError, KubeflowError
from ci_tools.kubeflow import api, auth, login_dex
from tests.fakes.certificates import Authority
from tests.fakes.dex import FakeDex
from tests.fakes.kubeflow import FakeKubeflow, serve


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(auth.TOKEN_ENV, raising=False)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "theirs")


def connected(fake: FakeKubeflow, **files: Any) -> api.Api:
    settings = config.KubeflowServer(
        endpoint=fake.endpoint, **{key: str(path) for key, path in files.items()}
    )
    return api.connect(settings, auth.chosen(settings), patience=2)


def refused(fake: FakeKubeflow, *, alert: str = "", **files: Any) -> str:
    """The sentence. alert: of TLS 1.3, which may be lost when the server hangs up."""
    with pytest.raises(KubeflowError) as caught:
        connected(fake, **files)
    lost = alert in str(caught.value) if alert else False
    assert lost or not isinstance(caught.value, api.Away), "it would be asked again and again"
    return str(caught.value)


@pytest.fixture
def served(ours: Authority) -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow(), ours.server()) as fake:
        yield fake


def test_a_custom_authority(served: FakeKubeflow, ours: Authority) -> None:
    connection = connected(served, ca_bundle=ours.bundle)
    assert connection.raw("GET", "/apis/v2beta1/healthz").status == 200
    listing = connection.pipelines.pipeline_service_list_pipeline_versions_with_http_info
    assert list(connection.pages(listing, "pipeline_versions", "none")) == []


def test_files_may_be_named_by_a_variable(
    served: FakeKubeflow, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_BUNDLE", str(ours.bundle))
    assert connected(served, ca_bundle="$OUR_BUNDLE")
    monkeypatch.delenv("OUR_BUNDLE")
    with pytest.raises(ConfigError, match=r"ca_bundle .*\$OUR_BUNDLE, which is not set"):
        connected(served, ca_bundle="$OUR_BUNDLE")


def test_an_authority_that_nobody_declared(served: FakeKubeflow) -> None:
    assert "unknown authority" in (said := refused(served))
    assert "'kubeflow.ca_bundle'" in said


def test_the_wrong_authority(served: FakeKubeflow, theirs: Authority) -> None:
    assert "unknown authority" in refused(served, ca_bundle=theirs.bundle)


def test_another_machine_s_bundle_is_not_ours(
    served: FakeKubeflow, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build trusts what ci.yaml says, wherever it runs."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ours.bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.bundle))
    assert "unknown authority" in refused(served)


@pytest.mark.parametrize(
    ("keywords", "what", "todo"),
    [
        ({"days": (-2, -1)}, "has expired", "renew the certificate"),
        ({"days": (1, 2)}, "is not valid yet", "machine's clock"),
        ({"address": "127.0.0.2"}, "is not for this IP address", "'kubeflow.endpoint'"),
    ],
)
def test_a_certificate_of_no_use(
    ours: Authority, keywords: dict[str, Any], what: str, todo: str
) -> None:
    with serve(FakeKubeflow(), ours.server(**keywords)) as fake:
        said = refused(fake, ca_bundle=ours.bundle)
    assert what in said
    assert todo in said


def test_a_server_that_speaks_no_tls() -> None:
    with serve(FakeKubeflow()) as fake:
        fake.endpoint = fake.endpoint.replace("http:", "https:")
        assert "does not speak TLS" in refused(fake)


# our own certificate ----------------------------------------------------------------


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def demanding(
    ours: Authority, theirs: Authority, request: pytest.FixtureRequest
) -> Iterator[FakeKubeflow]:
    """A server that demands a certificate of `theirs`."""
    context = ours.server(clients=theirs)
    context.minimum_version = context.maximum_version = request.param
    with serve(FakeKubeflow(), context) as fake:
        yield fake


def test_a_client_certificate_is_shown(
    demanding: FakeKubeflow, ours: Authority, theirs: Authority
) -> None:
    certificate, key = theirs.signed("client")
    assert connected(
        demanding, ca_bundle=ours.bundle, client_certificate=certificate, client_key=key
    )
    both = certificate.with_name("both.pem")
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    assert connected(demanding, ca_bundle=ours.bundle, client_certificate=both)


def test_a_client_certificate_is_missing(demanding: FakeKubeflow, ours: Authority) -> None:
    said = refused(demanding, alert="demand one", ca_bundle=ours.bundle)
    assert "client certificate" in said
    assert "'kubeflow.client_certificate'" in said


def test_a_client_certificate_of_somebody_else(demanding: FakeKubeflow, ours: Authority) -> None:
    certificate, key = ours.signed("stranger")
    files = {"ca_bundle": ours.bundle, "client_certificate": certificate, "client_key": key}
    said = refused(demanding, alert="refuse ours", **files)
    assert "does not know who signed our client certificate" in said or "refuse ours" in said


def test_a_client_certificate_that_has_expired(
    demanding: FakeKubeflow, ours: Authority, theirs: Authority
) -> None:
    certificate, key = theirs.signed("old", days=(-2, -1))
    files = {"ca_bundle": ours.bundle, "client_certificate": certificate, "client_key": key}
    said = refused(demanding, alert="refuse ours", **files)
    assert "our client certificate has expired" in said or "refuse ours" in said


def test_files_of_no_use(ours: Authority, tmp_path: Path) -> None:
    """Found out before anybody is asked: nobody listens there."""
    fake = FakeKubeflow(endpoint="https://127.0.0.1:1")
    certificate, key = ours.signed("client", passphrase=b"secret")
    _, other = ours.signed("other")
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    for files, said in (
        ({"client_certificate": certificate, "client_key": key}, "client key .* is encrypted"),
        ({"client_certificate": certificate, "client_key": other}, "do not fit"),
        ({"client_certificate": certificate}, "do not fit"),
        ({"client_certificate": tmp_path / "none"}, "client_certificate .* is not a file"),
        ({"client_certificate": certificate, "client_key": "none"}, "client_key .* not a file"),
        ({"ca_bundle": empty}, "ca_bundle .* holds no certificates"),
    ):
        with pytest.raises(ConfigError, match=said):
            connected(fake, **files)


# the login of Dex goes over TLS, too --------------------------------------------------


def test_a_login_shows_and_checks_the_same_certificates(
    ours: Authority, theirs: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    dex = FakeDex()
    monkeypatch.setenv("DEX_USER", dex.user)
    monkeypatch.setenv("DEX_PASSWORD", dex.password)
    declared = config.DexLogin(user_env="DEX_USER", password_env="DEX_PASSWORD")
    certificate, key = theirs.signed("client")
    with serve(FakeKubeflow(gate=dex), ours.server(clients=theirs)) as fake:
        settings = config.KubeflowServer(
            endpoint=fake.endpoint,
            dex=declared,
            ca_bundle=str(ours.bundle),
            client_certificate=str(certificate),
            client_key=str(key),
        )
        assert api.connect(settings, auth.chosen(settings), patience=2)
        for bundle, said in ((theirs.bundle, "unknown authority"), (ours.bundle, "client cert")):
            settings = config.KubeflowServer(
                endpoint=fake.endpoint, dex=declared, ca_bundle=str(bundle)
            )
            with pytest.raises(CIError, match=said):
                login_dex.session_cookies(settings, declared, dex.user, dex.password)
