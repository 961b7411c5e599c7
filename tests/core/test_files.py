from __future__ import annotations

import errno
import os

import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.core.files import remove_unfinished, write_atomically


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path, monkeypatch):
    path = tmp_path / "new" / "facts.json"
    write_atomically(path, b"before")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OsteoError) as told:
            write_atomically(path, b"after")
    assert str(told.value) == (
        f"{path}: cannot be written (No space left on device); "
        "check free space and permissions, then run the same command again"
    )
    assert [each.name for each in path.parent.iterdir()] == ["facts.json"] and path.read_bytes() == b"before"


def test_two_writers_with_one_process_number_do_not_meet(tmp_path, monkeypatch):
    """Machines, or containers with one host name, share a folder: each writes a file of its own, and one moves last."""
    path, original = tmp_path / "facts.json", os.fsync

    def meet(handle):
        monkeypatch.setattr(os, "fsync", original)
        write_atomically(path, b"the other's")
        original(handle)

    monkeypatch.setattr(os, "fsync", meet)
    write_atomically(path, b"ours, which is longer")
    assert path.read_bytes() == b"ours, which is longer"
    assert [each.name for each in tmp_path.iterdir()] == ["facts.json"]


def test_what_killed_writers_left_is_removed(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pathlib.Path.replace", die)
        write_atomically(tmp_path / "facts.json", b"half")
    (half,) = tmp_path.iterdir()
    assert half.name.startswith(".facts.json.")  # as `features.join_chunks` finds it
    write_atomically(tmp_path / "facts.json", b"whole")
    remove_unfinished(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["facts.json"]
