import pytest

from osteo_models.core.errors import InputError
from osteo_models.data.intake.pseudonyms import Pseudonyms, load_key


def test_a_key_is_made_once_and_gives_the_same_pseudonyms(tmp_path):
    path = tmp_path / "private" / "pseudonyms.key"
    first, second = (load_key(path, data=tmp_path / "data") for _ in range(2))
    assert first.patient("A") == second.patient("A") != first.patient("B")
    assert path.stat().st_mode & 0o777 == 0o600
    assert first.key.hex() not in repr(first)


def test_another_key_gives_other_pseudonyms():
    one, other = Pseudonyms(bytes(32)), Pseudonyms(b"\1" * 32)
    assert one.patient("A") != other.patient("A")
    assert one.uid("study", "1.2") != other.uid("study", "1.2")
    assert one.uid("study", "1.2") != one.uid("series", "1.2")
    assert one.uid("study", "1.2").startswith("2.25.") and len(one.uid("study", "1.2")) <= 64


def test_a_key_lies_outside_data_and_git_and_is_private(tmp_path):
    with pytest.raises(InputError, match="the key would lie within the data set"):
        load_key(tmp_path / "data" / "key", data=tmp_path / "data")
    (tmp_path / "project" / ".git").mkdir(parents=True)
    with pytest.raises(InputError, match=r"within a git checkout; name another place with --key or OSTEO_KEY_FILE"):
        load_key(tmp_path / "project" / "keys" / "key", data=tmp_path / "data")
    loose = tmp_path / "key"
    loose.write_text("00" * 32)
    loose.chmod(0o644)
    with pytest.raises(InputError, match=r"others can read the key \(mode 644\); allowed: 600"):
        load_key(loose, data=tmp_path / "data")
    loose.chmod(0o600)
    loose.write_text("short")
    with pytest.raises(InputError, match="no key in this file; allowed: 64 hexadecimal digits"):
        load_key(loose, data=tmp_path / "data")
