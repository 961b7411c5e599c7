"""What the README shows and what a fresh clone needs is there."""

import re

import yaml

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_into_the_project_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert {"docs/images/report.png", "docs/index.md", "docs/data.md"} <= set(links)
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_pictures_are_small():
    pictures = list((ROOT / "docs" / "images").glob("*.png"))
    assert pictures and [path.name for path in pictures if path.stat().st_size >= 200_000] == []


def test_the_data_sets_hash_is_recorded():
    (out,) = yaml.safe_load((ROOT / "data.dvc").read_text(encoding="utf-8"))["outs"]
    assert out["path"] == "data" and re.fullmatch(r"[0-9a-f]{32}\.dir", out["md5"])
