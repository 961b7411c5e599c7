import os
import subprocess
import sys

import pytest

from osteo_models.core.errors import OsteoError, StaleDataError, StoreError
from osteo_models.data.revisions import (
    check_data,
    find_data_commit,
    hash_data,
    is_recorded,
    read_commit,
    read_data_digest,
    read_digest_at,
    run_dvc,
    start_dvc,
)


@pytest.fixture
def repository(tmp_path):
    """A real DVC repository without git, with a data set of three files."""
    for name in ("data/b/2.bin", "data/a.csv", "data/b/10.bin"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    for command in (["init", "--no-scm", "-q"], ["config", "core.analytics", "false"], ["add", "-q", "data"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_our_hash_of_a_folder_is_dvcs(repository):
    assert hash_data(repository / "data") == read_data_digest(repository)
    check_data(repository)


def test_a_flipped_bit_is_found_though_size_and_time_stay(repository):
    path = repository / "data" / "a.csv"
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(StaleDataError, match=r"data: the files \(md5 .*\) differ from what data\.dvc records"):
        check_data(repository)


def test_revisions_of_the_data_are_known_to_git(tmp_path):
    def git(*arguments):
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for digit in "12":
        (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {digit * 32}.dir\n  path: data\n")
        assert find_data_commit(tmp_path, digit * 32) == ""  # not committed yet
        git("add", "data.dvc")
        git("commit", "-qm", digit)
        commits.append(git("rev-parse", "HEAD"))
    assert [find_data_commit(tmp_path, digit * 32) for digit in "12"] == commits
    assert read_digest_at(tmp_path, commits[0]) == "1" * 32 + ".dir"
    assert read_digest_at(tmp_path, "HEAD") == "2" * 32 + ".dir"
    assert read_digest_at(tmp_path, "nothing") is None
    assert is_recorded(tmp_path, "1" * 32 + ".dir") and is_recorded(tmp_path, "2" * 32 + ".dir")
    assert not is_recorded(tmp_path, "3" * 32 + ".dir")


def test_without_dvc_and_git_there_is_nothing_to_say(tmp_path):
    assert read_data_digest(tmp_path) is None
    assert read_commit(tmp_path) == ""
    assert find_data_commit(tmp_path, "1" * 32) == "" and read_digest_at(tmp_path, "HEAD") is None
    assert not is_recorded(tmp_path, "1" * 32)
    with pytest.raises(OsteoError, match="`dvc status` failed"):
        run_dvc(tmp_path, ["status"])


def test_dvcs_own_error_line_is_given_back_and_what_a_stage_says_is_shown(repository, capfd):
    (repository / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo said >&2 && exit 3\n")
    code, errors = start_dvc(repository, ["repro"], {})
    assert code != 0
    assert len(errors) == 1 and "failed to reproduce 'one'" in errors[0]
    shown = capfd.readouterr()
    assert "said" in shown.err and "ERROR" not in shown.err


def test_a_record_that_cannot_be_read_does_not_mean_that_there_is_none(tmp_path) -> None:
    assert read_data_digest(tmp_path) is None
    (tmp_path / "data.dvc").symlink_to("data.dvc")  # a loop, which no user can read
    with pytest.raises(StoreError, match=r"data\.dvc: cannot be read"):
        read_data_digest(tmp_path)
