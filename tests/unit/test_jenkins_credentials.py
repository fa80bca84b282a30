"""Who we are to a controller: the environment, netrc, a keyring; in this order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from ci_tools.errors import CredentialsError
from ci_tools.jenkins import credentials

URL = "https://jenkins.example.com"


class FakeKeyring(keyring.backend.KeyringBackend):
    """A FAKE: passwords in memory."""

    priority = 1  # type: ignore[assignment]
    broken: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        if self.broken:
            raise self.broken
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def get_credential(self, service: str, username: str | None) -> object:
        if username is None:
            username = next((user for it, user in self.kept if it == service), "")
        password = self.get_password(service, username)
        return keyring.credentials.SimpleCredential(username, password) if password else None


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKeyring]:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    before = keyring.get_keyring()
    made = FakeKeyring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def netrc(tmp_path: Path, text: str) -> None:
    (tmp_path / "netrc").write_text(text)
    (tmp_path / "netrc").chmod(0o600)


def test_the_environment_comes_first(ring: FakeKeyring, tmp_path: Path) -> None:
    netrc(tmp_path, "machine jenkins.example.com login n password of-netrc\n")
    ring.set_password(URL, "ci", "of-ring")
    found = credentials.find(URL, {"JENKINS_USER": "ci", "JENKINS_TOKEN": " of-env\n"})
    assert found == ("ci", "of-env", "$JENKINS_TOKEN")
    assert "of-env" not in repr(found)


def test_netrc_then_the_keyring(ring: FakeKeyring, tmp_path: Path) -> None:
    ring.set_password(URL, "k", "of-ring")
    assert credentials.find(URL, {}) == ("k", "of-ring", "the keyring")
    netrc(tmp_path, "machine jenkins.example.com login n password of-netrc\n")
    assert credentials.find(URL, {}) == ("n", "of-netrc", "netrc")
    assert credentials.find("https://other.example.com", {}) is None


def test_a_user_alone_chooses_among_them(ring: FakeKeyring, tmp_path: Path) -> None:
    netrc(tmp_path, "machine jenkins.example.com login n password of-netrc\n")
    ring.set_password(URL, "k", "of-ring")
    assert credentials.find(URL, {"JENKINS_USER": "k"}) == ("k", "of-ring", "the keyring")
    with pytest.raises(CredentialsError, match="no token for Jenkins' user 'x'") as error:
        credentials.find(URL, {"JENKINS_USER": "x"})
    assert error.value.exit_code == 15


def test_a_token_alone_is_half_of_a_pair(ring: FakeKeyring) -> None:
    with pytest.raises(CredentialsError, match="JENKINS_USER is not") as error:
        credentials.find(URL, {"JENKINS_TOKEN": "of-env"})
    assert "of-env" not in str(error.value)


def test_a_token_that_no_header_can_carry(ring: FakeKeyring) -> None:
    with pytest.raises(CredentialsError, match="control character") as error:
        credentials.find(URL, {"JENKINS_USER": "ci", "JENKINS_TOKEN": "a\nX-Evil: 1"})
    assert "X-Evil" not in str(error.value)


@pytest.mark.parametrize(
    "broken", [keyring.errors.KeyringLocked("locked"), keyring.errors.NoKeyringError("none")]
)
def test_a_keyring_that_does_not_open_is_as_none(ring: FakeKeyring, broken: Exception) -> None:
    ring.broken = broken
    assert credentials.find(URL, {}) is None


def test_a_netrc_that_does_not_parse_is_as_none(ring: FakeKeyring, tmp_path: Path) -> None:
    netrc(tmp_path, "machine jenkins.example.com login\nnonsense here")
    assert credentials.find(URL, {}) is None
