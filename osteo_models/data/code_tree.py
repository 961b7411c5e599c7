"""The identity of code and parameters: the git tree that holds them, and the commit that holds this tree."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from osteo_models.core.errors import OsteoError
from osteo_models.data.revisions import child_environment, read_commit

# What can influence a result. Documents, tests, dvc.lock and infra/ cannot.
CODE: Final = (
    "osteo_models",
    "pipelines",
    "params.yaml",
    "dvc.yaml",
    "data.dvc",
    "pyproject.toml",
    "requirements.lock",
)
BATCH: Final = 500  # commits read in one call of git
COMMIT, TREE = "git.commit", "git.tree"
OUTSIDE: Final = "not a git repository"  # as git says it


@dataclass(frozen=True)
class CodeSearch:
    """The commit that holds the code of a version; without one, what was found instead and what to do."""

    commit: str = ""
    found: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class _Repository:
    """A git repository, and the project's place in it.

    Attributes:
        top: Folder of the working tree.
        prefix: Path of the project below it, empty or ending in a slash.
        objects: Folder of its objects.
        algorithm: Hash of its ids.
    """

    top: Path
    prefix: str
    objects: Path
    algorithm: str

    def run(self, *arguments: str, given: bytes = b"", variables: Mapping[str, str] | None = None) -> bytes:
        environment = {**child_environment(), **(variables or {})}
        command = ["git", "--literal-pathspecs", "-c", "core.safecrlf=false", *arguments]
        done = subprocess.run(command, cwd=self.top, env=environment, input=given, check=False, capture_output=True)
        if done.returncode:
            raise _explain(self.top, done.stderr.decode(errors="replace"))
        return done.stdout


def read_code(root: Path) -> dict[str, str]:
    """The checked-out commit and the tree of the code, as tags; what there is none of is left out."""
    repository = _open(root)
    if repository is None:
        return {}
    tags = {COMMIT: read_commit(root), TREE: _write_tree(repository)}
    return {name: text for name, text in tags.items() if text}


def find_code(root: Path, tags: Mapping[str, str]) -> CodeSearch:
    """The newest commit on a branch, local or remote-tracking, that holds exactly the code of a version.

    Args:
        root: The project's folder.
        tags: Of the version.
    """
    tree, commit = tags.get(TREE, ""), tags.get(COMMIT, "")
    if not tree:
        remedy = "commit the project to git and register the model again with `dvc repro -f register`"
        return CodeSearch(found="no git tree: it was registered outside a git repository", remedy=remedy)
    repository = _open(root)
    if repository is None:
        remedy = "promote it in a clone of the project's repository"
        return CodeSearch(found=f"no git repository in {root} to look for git tree {tree[:12]}", remedy=remedy)
    if holder := _find_commit(repository, tree):
        return CodeSearch(holder)
    if commit and not _has_commit(repository, commit):
        found = (
            f"git tree {tree[:12]} is in no branch, and commit {commit[:12]}, which it was registered on, is not here"
        )
        return CodeSearch(found=found, remedy="`git fetch` the branch that has it, then promote again")
    remedy = (
        "commit it, then promote again (`git fetch` first, if it was committed elsewhere); if it was changed since,"
        " commit and `dvc repro -f register`"
    )
    return CodeSearch(found=f"git tree {tree[:12]} is in no branch", remedy=remedy)


def _open(root: Path) -> _Repository | None:
    """The repository that a folder is in; None outside git.

    Raises:
        OsteoError: Git cannot use it.
    """
    asked = ["--show-toplevel", "--show-prefix", "--show-object-format", "--git-path", "objects"]
    command = ["git", "rev-parse", *asked]
    environment = {**child_environment(), "LC_ALL": "C"}
    done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
    if OUTSIDE in done.stderr:
        return None
    if done.returncode:
        raise _explain(root, done.stderr)
    top, prefix, algorithm, objects = done.stdout.split("\n")[:4]
    return _Repository(Path(top), prefix, (root / objects).resolve(), algorithm)


def _write_tree(repository: _Repository) -> str:
    """The git tree of CODE as it is in the working tree; empty where git knows none of it, or ignores it.

    It is made in an index and an object folder of its own: nothing in the repository changes. Every file is hashed, so
    that an edit which keeps size and time counts.
    """
    names = ["--", *(f"{repository.prefix}{name}" for name in CODE)]
    tracked = repository.run("ls-files", "-z", "--stage", *names)
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "GIT_INDEX_FILE": str(Path(folder, "index")),
            "GIT_OBJECT_DIRECTORY": folder,
            # Quoted as in C, for a path may hold the separator.
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": json.dumps(str(repository.objects), ensure_ascii=False),
        }
        repository.run("update-index", "-z", "--index-info", given=tracked, variables=variables)
        repository.run("add", "--update", variables=variables)
        new = repository.run("ls-files", "-z", "--others", "--exclude-standard", *names, variables=variables)
        new = new.replace(b"/\0", b"\0")  # a repository in a folder
        repository.run("update-index", "-z", "--add", "--replace", "--stdin", given=new, variables=variables)
        if not repository.run("ls-files", "-z", variables=variables):
            return ""
        arguments = ["write-tree", *([f"--prefix={repository.prefix}"] if repository.prefix else [])]
        return repository.run(*arguments, variables=variables).decode().strip()


def _find_commit(repository: _Repository, tree: str) -> str:
    commits = repository.run("rev-list", "--date-order", "--branches", "--remotes").decode().split()
    for start in range(0, len(commits), BATCH):
        batch = commits[start : start + BATCH]
        names = "".join(f"{commit}:{repository.prefix.rstrip('/')}\n" for commit in batch)
        folders = _split_objects(repository.run("cat-file", "--batch", given=names.encode()))
        for commit, content in zip(batch, folders, strict=True):
            if content is not None and _hash_code_tree(content, repository.algorithm) == tree:
                return commit
    return ""


def _split_objects(output: bytes) -> Iterator[bytes | None]:
    """What `git cat-file --batch` prints, by object: a tree's content, or None where there is no such tree."""
    position = 0
    while position < len(output):
        end = output.index(b"\n", position)
        head = output[position:end].split(b" ")
        position = end + 1
        if head[-1] == b"missing":
            yield None
            continue
        size = int(head[-1])
        yield output[position : position + size] if head[-2] == b"tree" else None
        position += size + 1


def _hash_code_tree(content: bytes, algorithm: str) -> str:
    """The id of a tree without the entries that are not in CODE.

    Args:
        content: Of the tree: for each entry `mode name`, a zero byte, and the id in bytes.
        algorithm: Hash of the ids.
    """
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    kept, position = b"", 0
    while position < len(content):
        end = content.index(b"\0", position) + 1 + size
        name = content[position:end].partition(b" ")[2][: -1 - size]
        if name.decode(errors="replace") in CODE:
            kept += content[position:end]
        position = end
    return hashlib.new(algorithm, b"tree %d\0" % len(kept) + kept, usedforsecurity=False).hexdigest()


def _has_commit(repository: _Repository, commit: str) -> bool:
    command = ["git", "cat-file", "-e", "--end-of-options", f"{commit}^{{commit}}"]
    return not subprocess.run(command, cwd=repository.top, check=False, capture_output=True).returncode


def _explain(where: Path, stderr: str) -> OsteoError:
    lines = stderr.strip().splitlines() or ["no message"]
    return OsteoError(f"git failed: {lines[0]}", where=str(where), remedy="`git status` shows the same; fix it there")
