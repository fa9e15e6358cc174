"""The source distribution holds what it takes to build, and nothing else."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import clof_ext

ROOT = Path(clof_ext.__file__).parent.parent
FOLDERS = ("clof_ext", "csrc", "cmake")
FILES = {"CHANGELOG.md", "CMakeLists.txt", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}
# What setuptools adds.
WRITTEN = {"PKG-INFO", "setup.cfg"}


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_source_distribution_is_complete(tmp_path: Path):
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "sdist", "--dist-dir", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        found = {member.name.partition("/")[2] for member in files.getmembers() if member.isfile()}
    found = {name for name in found if ".egg-info/" not in name}
    listed = subprocess.run(["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found == {*listed.stdout.split(), *FILES, *WRITTEN}
