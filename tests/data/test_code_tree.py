"""Code is identified by its content: what is in the working tree, and which commit holds it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.data.code_tree import CODE, COMMIT, TREE, find_code, read_code
from tests.conftest import ROOT

FILES = ("osteo_models/net.py", "osteo_models/deep/layer.py", "pipelines/run.py", "params.yaml", "dvc.yaml")
OTHERS = ("dvc.lock", "README.md", "docs/guide.md", "tests/test_net.py", "infra/a.yaml")


class Repository:
    """A git repository with a project in it."""

    def __init__(self, top: Path, folder: str = "", *arguments: str) -> None:
        self.top, self.root = top, top / folder
        self.root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", *arguments)
        (top / "other.txt").write_text("of another project")
        for name in (*FILES, *OTHERS):
            self.write(name, f"{name}\n")

    def git(self, *arguments: str, **given) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=self.top, check=True, capture_output=True, text=True, **given)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, *arguments: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "change", "--allow-empty", *arguments)
        return self.git("rev-parse", "HEAD")

    def tree(self) -> str:
        return read_code(self.root).get(TREE, "")

    def holder(self, tree: str) -> str:
        return find_code(self.root, {TREE: tree}).commit


@pytest.fixture(params=["", "projects/a b [1]"], ids=["at the top", "in a subfolder"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository", request.param)


def test_the_code_as_it_is_now_is_what_a_later_commit_holds(repository: Repository) -> None:
    before = repository.tree()
    first = repository.commit()
    assert repository.tree() == before and repository.holder(before) == first
    repository.write("params.yaml", "edited")
    edited = repository.tree()
    assert edited != before and repository.holder(edited) == ""
    second = repository.commit()
    assert (repository.tree(), repository.holder(edited), repository.holder(before)) == (edited, second, first)
    assert read_code(repository.root) == {COMMIT: second, TREE: edited}


def test_it_is_git_s_own_id_of_a_tree(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    repository.commit()
    entries = [line for line in repository.git("ls-tree", "HEAD").splitlines() if line.partition("\t")[2] in CODE]
    assert len(entries) == 4
    assert repository.git("mktree", input="\n".join(entries) + "\n") == repository.tree()


@pytest.mark.parametrize("name", [*FILES, "osteo_models/new.py", "data.dvc", "pyproject.toml", "requirements.lock"])
def test_every_file_that_can_influence_a_result_counts(repository: Repository, name: str) -> None:
    repository.commit()
    seen = {repository.tree()}
    path = repository.write(name, "edited")
    seen.add(repository.tree())
    path.chmod(0o755)
    seen.add(repository.tree())
    path.unlink()
    path.symlink_to("elsewhere")
    seen.add(repository.tree())
    path.unlink()
    seen.add(repository.tree())
    assert len(seen) == (4 if name not in FILES else 5)  # a new file that is deleted again is no change


@pytest.mark.parametrize("name", [*OTHERS, "osteo_models/__pycache__/net.pyc", "notes.txt"])
def test_no_other_file_counts(repository: Repository, name: str) -> None:
    repository.write(".gitignore", "__pycache__/\n")
    repository.commit()
    before = repository.tree()
    repository.write(name, "edited")
    assert repository.tree() == before and repository.holder(before)


def test_an_edit_that_keeps_size_and_time_counts(repository: Repository) -> None:
    path = repository.root / "params.yaml"
    repository.commit()
    before, stat = repository.tree(), path.stat()
    path.write_text("PARAMS.YAML\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert repository.tree() != before


def test_reading_it_changes_nothing_in_the_repository(repository: Repository) -> None:
    repository.commit()
    repository.write("params.yaml", "edited")
    repository.write("osteo_models/new.py", "new")
    repository.git("status")
    folder = repository.top / ".git"
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    folder.chmod(0o555)
    (folder / "objects").chmod(0o555)
    assert repository.tree()
    (folder / "objects").chmod(0o755)
    folder.chmod(0o755)
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


def test_what_is_staged_or_half_merged_makes_no_difference(repository: Repository) -> None:
    repository.commit()
    repository.git("checkout", "-qb", "side")
    for name in ("dvc.lock", "params.yaml"):
        repository.write(name, "theirs")
    repository.commit()
    repository.git("checkout", "-q", "main")
    for name in ("dvc.lock", "params.yaml"):
        repository.write(name, "ours")
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "side")
    repository.write("params.yaml", "both")
    tree = repository.tree()  # `dvc repro` resolves dvc.lock, which is in conflict until then
    repository.write("dvc.lock", "made")
    assert repository.holder(tree) == "" and repository.commit() == repository.holder(tree)
    repository.write("params.yaml", "staged")
    repository.git("add", "-A")
    repository.write("params.yaml", "both")
    assert repository.tree() == tree


@pytest.mark.parametrize("convert", ["true", "input", "false"])
def test_line_endings_are_git_s_matter(tmp_path: Path, convert: str) -> None:
    repository = Repository(tmp_path / "repository")
    repository.git("config", "core.autocrlf", convert)
    repository.git("config", "core.safecrlf", "false")
    (repository.root / "params.yaml").write_bytes(b"a: 1\r\nb: 2\r\n")
    tree = repository.tree()
    commit = repository.commit()
    repository.git("config", "core.safecrlf", "true")
    assert (repository.tree(), repository.holder(tree)) == (tree, commit)


def test_where_git_keeps_no_executable_bits_they_make_no_difference(repository: Repository) -> None:
    path = repository.root / "pipelines" / "run.py"
    path.chmod(0o755)
    repository.commit()
    repository.git("config", "core.fileMode", "false")
    tree = repository.tree()
    path.chmod(0o644)
    assert repository.tree() == tree and repository.holder(tree)


def test_submodules_and_repositories_in_folders(repository: Repository, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other")
    other.commit()
    repository.commit()
    place = f"{repository.root.relative_to(repository.top)}/osteo_models/other".removeprefix("./")
    repository.git("submodule", "add", "-q", str(other.top), place)
    tree = repository.tree()
    assert repository.commit() == repository.holder(tree)
    inner = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "later", "--allow-empty"]
    subprocess.run(inner, cwd=repository.top / place, check=True)
    assert repository.tree() != tree
    later = repository.tree()
    assert repository.commit() == repository.holder(later)
    subprocess.run(["git", "clone", "-q", str(other.top), str(repository.root / "pipelines" / "mine")], check=True)
    mine = repository.tree()
    assert mine != later and repository.commit() == repository.holder(mine)


def test_files_and_folders_that_take_each_other_s_place(repository: Repository) -> None:
    repository.commit()
    (repository.root / "osteo_models" / "deep" / "layer.py").unlink()
    (repository.root / "osteo_models" / "deep").rmdir()
    (repository.root / "osteo_models" / "deep").symlink_to("../docs")
    (repository.root / "osteo_models" / "net.py").unlink()
    repository.write("osteo_models/net.py/inner.py", "now a folder")
    tree = repository.tree()
    assert repository.commit() == repository.holder(tree)


def test_a_tracked_file_counts_though_it_is_ignored(repository: Repository) -> None:
    repository.commit()
    repository.write(".gitignore", "params.yaml\npipelines/\n")
    repository.commit()
    before = repository.tree()
    for name in ("params.yaml", "pipelines/run.py"):
        repository.write(name, "edited")
    tree = repository.tree()
    assert tree != before and repository.commit() == repository.holder(tree)


def test_ids_of_sha_256(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository", "", "--object-format=sha256")
    tree = repository.tree()
    assert len(tree) == 64 and repository.commit() == repository.holder(tree)


def test_a_linked_working_tree_and_a_path_with_the_separator(tmp_path: Path) -> None:
    repository = Repository(tmp_path / 'a:b "c"')
    repository.commit()
    repository.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    (tmp_path / "linked" / "params.yaml").write_text("edited")
    tree = read_code(tmp_path / "linked")[TREE]
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "c"], cwd=tmp_path / "linked")
    assert repository.holder(tree) == repository.git("rev-parse", "side")


def test_any_branch_will_do_and_the_newest_commit_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.commit()
    tree = repository.tree()
    repository.git("checkout", "-qb", "side")
    repository.write("README.md", "another")
    newest = repository.commit("--date=2040-01-01T00:00:00")
    assert repository.holder(tree) == newest
    repository.git("checkout", "-q", "main")
    repository.write("params.yaml", "edited")
    edited = repository.tree()
    repository.commit()
    repository.git("checkout", "-q", "--detach")
    repository.git("branch", "-D", "main")
    assert repository.holder(edited) == ""  # a commit on no branch may be gone tomorrow
    repository.git("branch", "again")
    assert repository.holder(edited)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--branch", "side", str(repository.top), str(clone)], check=True)
    there = clone / repository.root.relative_to(repository.top)
    assert find_code(there, {TREE: edited}).commit  # on a branch of the remote


def test_a_commit_that_is_not_here_is_to_be_fetched(repository: Repository, tmp_path: Path) -> None:
    repository.commit()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository.top), str(clone)], check=True)
    there = clone / repository.root.relative_to(repository.top)
    repository.write("params.yaml", "edited")
    repository.commit()
    tags = read_code(repository.root)
    found = find_code(there, tags)
    assert found.commit == "" and f"commit {tags[COMMIT][:12]}, which it was registered on, is not here" in found.found
    assert found.remedy.startswith("`git fetch` the branch")
    subprocess.run(["git", "fetch", "-q"], cwd=clone, check=True)
    assert find_code(there, tags).commit == tags[COMMIT]


def test_without_git_there_is_no_identity_and_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("a")
    assert read_code(tmp_path) == {}
    missing, elsewhere = find_code(tmp_path, {}), find_code(tmp_path, {TREE: "a" * 40})
    assert "registered outside a git repository" in missing.found and "`dvc repro -f register`" in missing.remedy
    assert "no git repository in" in elsewhere.found and "in a clone of the project" in elsewhere.remedy


def test_a_repository_without_any_commit_and_one_that_ignores_the_project(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository", "project")
    tree = repository.tree()
    assert read_code(repository.root) == {TREE: tree}
    found = find_code(repository.root, {TREE: tree})
    assert found.found == f"git tree {tree[:12]} is in no branch"
    assert found.remedy.startswith("commit it, then promote again")
    (repository.top / ".gitignore").write_text("project/\n")
    assert read_code(repository.root) == {}


def test_a_repository_that_git_refuses_is_an_error(repository: Repository) -> None:
    repository.commit()
    (repository.top / ".git" / "config").write_text("[core\n")
    with pytest.raises(OsteoError, match=r"git failed: .*config.*; `git status` shows the same"):
        read_code(repository.root)


def test_the_files_named_are_those_of_this_project() -> None:
    assert [name for name in CODE if not (ROOT / name).exists()] == []


def test_two_thousand_commits_take_a_few_calls_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = Repository(tmp_path / "repository")
    repository.commit()
    stream = "".join(
        f"commit refs/heads/long\ncommitter t <t@t> {1_700_000_000 + number} +0000\ndata 1\nc\n"
        f"M 100644 inline params.yaml\ndata 5\n{number:05}\n"
        for number in range(2000)
    )
    repository.git("fast-import", "--quiet", input=stream)
    repository.git("checkout", "-q", "long~1990")
    tree, calls, run = repository.tree(), [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: calls.append(given) or run(*given, **named))
    assert find_code(repository.root, {TREE: tree}).commit == repository.git("rev-parse", "HEAD")
    assert len(calls) <= 8
