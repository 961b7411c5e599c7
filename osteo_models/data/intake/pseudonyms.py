"""Keyed pseudonyms: the same person gets the same one, which cannot be reversed without the key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from osteo_models.core.errors import InputError
from osteo_models.core.files import write_atomically
from osteo_models.data.data_folder import INTAKE

KEY_BYTES = 32
PATIENT_DIGITS = 12
NAME_DIGITS = 16
KEY_NAME = "key.csv"  # in the data set
TWICE = "name its key with --key or OSTEO_KEY_FILE: under another one everybody would come in a second time"


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under one key (HMAC-SHA-256); kinds are kept apart, so equal texts of two kinds differ."""

    key: bytes = field(repr=False)

    def patient(self, identifier: str) -> str:
        """The `patient_id` of a person, 12 hexadecimal digits."""
        return self._digest("patient", identifier).hex()[:PATIENT_DIGITS]

    def name(self, text: str) -> str:
        """The pseudonym of an input's name, 16 hexadecimal digits."""
        return self._digest("name", text).hex()[:NAME_DIGITS]

    def uid(self, *parts: object) -> str:
        """A DICOM identifier for another one; relations between files are kept (PS3.5 B.2)."""
        number = int.from_bytes(self._digest("uid", *parts)[:16], "big")
        return f"2.25.{number}"

    def _digest(self, *parts: object) -> bytes:
        text = "\x1f".join(str(part) for part in parts)
        return hmac.new(self.key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()


def load_key(path: Path, *, data: Path) -> Pseudonyms:
    """The pseudonyms of a key file, which is made where it is missing.

    Args:
        path: The key file; it must lie outside the data set and outside any git checkout, readable by its owner only.
        data: The data set to be made.

    Raises:
        InputError: The file lies where it would be shared, others can read it, it holds no key, or it is missing and
            the data set was made with it.
    """
    path = path.expanduser().absolute()
    remedy = "name another place with --key or OSTEO_KEY_FILE"
    if path.resolve().is_relative_to(data.resolve()):
        raise InputError("the key would lie within the data set", where=str(path), remedy=remedy)
    if any((parent / ".git").exists() for parent in path.resolve().parents):
        raise InputError("the key would lie within a git checkout", where=str(path), remedy=remedy)
    if not path.exists():
        if (data / INTAKE).is_file():
            raise InputError("the key of this data set is missing", where=str(path), remedy=TWICE)
        _make_key(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"others can read the key (mode {mode:o})", where=str(path), allowed="600", remedy=f"chmod 600 {path}"
        )
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (ValueError, UnicodeDecodeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError("no key in this file", where=str(path), allowed=f"{2 * KEY_BYTES} hexadecimal digits")
    return Pseudonyms(key)


def check_key(data: Path, pseudonyms: Pseudonyms) -> None:
    """Check that an existing data set was made with this key.

    Raises:
        InputError: It was made with another key.
    """
    path = data / KEY_NAME
    if path.is_file() and path.read_text(encoding="ascii", errors="replace") != describe_key(pseudonyms):
        raise InputError("the data set was made with another key", where=str(data), remedy=TWICE)


def describe_key(pseudonyms: Pseudonyms) -> str:
    """A name that identifies the key without revealing it; stored in the data set."""
    return f"key\n{pseudonyms.name('which key this is')}\n"


def _make_key(path: Path) -> None:
    """Write a new key file; one that another process writes first stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, secrets.token_hex(KEY_BYTES) + "\n", mode=0o600, overwrite=False)
