"""What we hash of a context is what BuildKit receives of it: asked of the engine itself."""

from __future__ import annotations

import os
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.components import context
from ci_tools.errors import DockerfileError

pytestmark = pytest.mark.integration

TREE = [
    "a", "b.txt", "B", ".hidden", "#x", "!y", "^z", "1", "ä", "sp ace", "c/a", "c/b.txt",
    "c/d/a", "c/d/e/b.txt", "f/x.py", "f/g/x.py", "n\nl/a", "q\"u'o/te", "ab/c", "axb", "a+(b)",
]  # fmt: skip


def received(root: Path, dockerfile: Path | None = None) -> dict[str, tarfile.TarInfo]:
    """Every file and link that the engine's COPY finds. CalledProcessError: it refuses."""
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / "out.tar"
        subprocess.run(
            [
                "docker", "buildx", "build", "--quiet", "--provenance=false",
                f"--output=type=tar,dest={exported}",
                f"--file={dockerfile or root / 'Dockerfile'}", root,
            ],
            check=True, capture_output=True, timeout=600,
        )  # fmt: skip
        with tarfile.open(exported) as tar:
            return {member.name: member for member in tar if not member.isdir()}


def lay(root: Path, paths: list[str], patterns: str | bytes = "", own: str | None = None) -> Path:
    root.mkdir(exist_ok=True)
    for path in ("Dockerfile", *paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"FROM scratch\nCOPY . /\n")
    content = patterns if isinstance(patterns, bytes) else patterns.encode()
    (root / ".dockerignore").write_bytes(content)
    if own is not None:
        (root / "Dockerfile.dockerignore").write_text(own)
    return root


def hashed(root: Path, dockerfile: Path | None = None) -> set[str]:
    return set(context.entries(root, dockerfile or root / "Dockerfile"))


@pytest.mark.parametrize(
    "patterns",
    [
        "a\n#x\n\n   \n # y\n", "\ufeffa\r\n  c/d \t\r\n", "/a\n./c/../f/\n..\n../a\n", ".\n",
        "*\n", "*\n!c/d\n", "*\n!c/d/*\n!c/d/e/**\n", "**\n!f\nf/g\n", "*.txt\n", "**/*.txt\n",
        "c/**/b.txt\n", "**/a\n", "**a\n", "a**\n", "a***\n", "***\n", "**?\n", "a**b\n", "**/\n",
        "*/*\n!c\n", "*/a\n!c\n", "c\n!**/e\n", "*\n!/f\n!  B\n", "*\n/!a\n", "!!y\n", "\\!y\n",
        "\\#x\n", "[a-b]*\n", "[^a-b]\n", "[!a]\n", "c[^x]a\n", "[*]\n", "[[a]\n", "[a&&b]\n",
        "^z\n", "^z*\n", "?\n", "a+(b)\n", "ä\n", "b\n", "sp ace\n", "sp\\ ace\n", "q\"u'o\n",
        "Dockerfile\n.dockerignore\n", "c/d\n!c/d/e/b.txt\nc/d/e\n!c/d/e\n", b"\xff\na\n",
        "/\n", "/ a\n", "\u00a0a\u00a0\n",
    ],
)  # fmt: skip
def test_patterns(tmp_path: Path, patterns: str | bytes) -> None:
    root = lay(tmp_path / "context", TREE, patterns)
    assert hashed(root) == set(received(root))


@pytest.mark.parametrize(
    "pattern", ["[", "a[b", "!", "!/", "[z-a]", "[a-]", "[]a]", "a\\", "\\x", "a\tb", "x" * 70000]
)
def test_what_the_engine_refuses_we_refuse(tmp_path: Path, pattern: str) -> None:
    root = lay(tmp_path / "context", TREE, pattern)
    with pytest.raises(DockerfileError, match="line 1"):
        hashed(root)
    with pytest.raises(subprocess.CalledProcessError):
        received(root)


def test_which_ignore_file_is_read(tmp_path: Path) -> None:
    for number, own in enumerate(("c", "", "#")):
        root = lay(tmp_path / str(number), TREE, "a\n", own=own)
        assert hashed(root) == set(received(root))
    elsewhere = tmp_path / "elsewhere/gpu.Dockerfile"  # a context that is not beside it
    lay(elsewhere.parent, ["gpu.Dockerfile"])
    elsewhere.with_name("gpu.Dockerfile.dockerignore").write_text("f\n")
    assert hashed(root, elsewhere) == set(received(root, elsewhere))
    root = lay(tmp_path / "linked", ["patterns", "a"])
    (root / ".dockerignore").unlink()
    (root / ".dockerignore").symlink_to("patterns")
    (root / "patterns").write_text("a\n")
    assert hashed(root) == set(received(root))


def test_a_dockerfile_is_a_link_only_within_its_directory(tmp_path: Path) -> None:
    root = lay(tmp_path / "context", ["real/Dockerfile", "below/x"])
    (root / "Link").symlink_to("real/Dockerfile")
    assert hashed(root, root / "Link") == set(received(root, root / "Link"))
    (root / "below/Link").symlink_to("../real/Dockerfile")  # discovery refuses it
    with pytest.raises(subprocess.CalledProcessError):
        received(root, root / "below/Link")


def test_types_targets_and_executable_bits(tmp_path: Path) -> None:
    root = lay(tmp_path / "context", ["plain", "run", "group", "private", "d/x", "ignored/x"])
    (root / ".dockerignore").write_text("ignored\nlink-to-d/x\n")
    for name, mode in {"run": 0o755, "group": 0o654, "private": 0o600}.items():
        (root / name).chmod(mode)
    links = {"link-to-d": "d", "dangling": "none", "outside": "/etc", "up": "../..", "l": "plain"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / os.fsdecode(b"\xff")).touch()
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        found = received(root)
    entries = context.entries(root, root / "Dockerfile")
    assert set(entries) == set(found)
    for path, member in found.items():
        kind = entries[path].partition(":")[0]
        if member.issym():
            assert (kind, links[path]) == ("link", member.linkname)
        elif kind != "special":
            assert member.isreg()
            assert kind == ("exec" if member.mode & 0o100 else "file")


PART = st.sampled_from(["a", "b", "ab", "c.py", "*", "**", "?", "*.py", "a*", "**b", "[ab]", "a?*"])
PATTERN = st.tuples(
    st.sampled_from(["", "", "!", "/", "!/", "./"]),
    st.lists(PART, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/", "/**", "/*"]),
).map("".join)
NAME = st.sampled_from(["a", "b", "ab", "c.py", ".h"])
PATH = st.lists(NAME, min_size=1, max_size=4).map("/".join)


# Files end in a name of their own, so that none is another's directory.
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(PATTERN, min_size=1, max_size=5), st.lists(PATH, min_size=1, max_size=12, unique=True)
)
def test_any_tree_and_patterns(patterns: list[str], paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        files = [f"{path}/b.py" for path in paths] + ["x.py", "a.py"]
        root = lay(Path(scratch), files, "\n".join(patterns))
        assert hashed(root) == set(received(root))
