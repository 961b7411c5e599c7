"""`make audit`: known vulnerabilities of the locked packages, but for those set aside, with a date, in waivers.yaml.

Asks PyPI through pip-audit, so that it needs the network; it says so where it could not ask, and exits 1. pip-audit
itself says "no known vulnerabilities found" and exits 0 when the service knows none of the packages.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import click
import yaml
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from osteo_models.core.errors import InputError, OsteoError, StoreError

FOLDER: Final = Path(__file__).parent
LOCKS: Final = (FOLDER.parent / "requirements.lock", FOLDER / "ray.lock")
WAIVERS: Final = FOLDER / "waivers.yaml"
LONGEST: Final = datetime.timedelta(days=183)


class Waiver(BaseModel):
    """A vulnerability that is set aside until a day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^(GHSA|PYSEC|CVE)-[\w-]+$")]
    package: Annotated[str, StringConstraints(min_length=1)]
    reason: Annotated[str, StringConstraints(min_length=20)]
    until: datetime.date


def read_waivers(path: Path, today: datetime.date) -> list[Waiver]:
    """Read the waivers.

    Raises:
        InputError: One of them is malformed, has expired, or runs for more than half a year.
    """
    try:
        waivers = TypeAdapter(list[Waiver]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or [])
    except ValidationError as error:
        raise InputError(str(error.errors()[0]["msg"]), where=path.name, allowed="id, package, reason, until") from None
    for waiver in waivers:
        if waiver.until < today:
            remedy = "update the package, or judge it again and set another date"
            raise InputError(f"{waiver.id} was set aside until {waiver.until}", where=path.name, remedy=remedy)
        if waiver.until > today + LONGEST:
            allowed = f"at most {LONGEST.days} days"
            raise InputError(f"{waiver.id} is set aside until {waiver.until}", where=path.name, allowed=allowed)
    return waivers


def ask(locks: Sequence[Path]) -> list[dict[str, Any]]:
    """What pip-audit says of each package.

    Raises:
        StoreError: It said nothing that can be read.
    """
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    command += ["--format", "json", *(word for lock in locks for word in ("--requirement", str(lock)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        found = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise StoreError(found, where="pip-audit", remedy="run it where pypi.org can be reached") from None


def judge(answers: Sequence[Mapping[str, Any]], waivers: Sequence[Waiver]) -> str:
    """One line of what was found.

    Raises:
        StoreError: A package was not asked about.
        OsteoError: There is a vulnerability that no waiver sets aside.
    """
    if skipped := [answer for answer in answers if "vulns" not in answer]:
        first = f"{skipped[0]['name']}: {skipped[0].get('skip_reason', 'no reason given')}"
        found = f"could not ask about {len(skipped)} of {len(answers)} packages, such as {first}"
        raise StoreError(found, where="pip-audit", remedy="run it where pypi.org can be reached; nothing is known yet")
    aside = {(waiver.package.lower(), waiver.id) for waiver in waivers}
    open_ = [
        f"{answer['name']} {answer['version']}: {vulnerability['id']}, mended in {', '.join(mended) or 'no version'}"
        for answer in answers
        for vulnerability in answer["vulns"]
        if not {(answer["name"].lower(), name) for name in (vulnerability["id"], *vulnerability["aliases"])} & aside
        for mended in [vulnerability["fix_versions"]]
    ]
    if open_:
        remedy = "update the packages, or set them aside in infra/waivers.yaml with a reason and a date"
        raise OsteoError("; ".join(open_), where=f"{len(open_)} vulnerabilities", remedy=remedy)
    return f"{len(answers)} packages, no vulnerability that is not set aside ({len(waivers)} waivers)"


@click.command()
def main() -> None:
    """Audit the lock files."""
    try:
        waivers = read_waivers(WAIVERS, datetime.datetime.now(tz=datetime.UTC).date())
        click.echo(judge(ask(LOCKS), waivers))
    except OsteoError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
