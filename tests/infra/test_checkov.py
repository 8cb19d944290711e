"""checkov over all of infra/ that it knows. What it is told to skip says why, and is nothing that it does not ask."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.targets import OVERLAYS
from support.validators import INFRA, checkov, kustomize

pytestmark = pytest.mark.slow
Json = dict[str, Any]
TEMPLATES = sorted((INFRA / "aws").glob("*/template.yaml"))
# Checks that templates may skip; each gives its own reason beside it.
SKIPPED = {
    "lambda/template.yaml": {"CKV_AWS_116", "CKV_AWS_117"},
    "lambda-managed-instances/template.yaml": {"CKV_AWS_115", "CKV_AWS_116", "CKV_AWS_117"},
}
LEAST_REASON = 40  # characters
CARELESS = "careless.yaml"  # a copy of a template without something that checkov asks for
REPORTS = ["cloudformation", "kubernetes"]


@pytest.fixture(scope="module")
def cloudformation(tmp_path_factory: pytest.TempPathFactory) -> Any:
    careless = tmp_path_factory.mktemp("templates") / CARELESS
    careless.write_text((INFRA / "aws/lambda/template.yaml").read_text().replace("EnableKeyRotation: true", ""))
    return checkov("cloudformation", [*TEMPLATES, careless])


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rendered")
    paths = [folder / f"{overlay}.yaml" for overlay in OVERLAYS]
    for overlay, path in zip(OVERLAYS, paths, strict=True):
        path.write_text(kustomize(INFRA / "kubernetes/overlays" / overlay))
    return checkov("kubernetes", paths)


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Json:
    found: Json = request.getfixturevalue(request.param)
    return found


def results(report: Json, kind: str) -> Iterator[tuple[str, Json]]:
    """The checks that ended so, each with the name of its file."""
    for item in report["results"][f"{kind}_checks"]:
        path = Path(item["file_path"])
        yield f"{path.parent.name}/{path.name}" if path.name == "template.yaml" else path.name, item


def test_nothing_fails(report: Json) -> None:
    assert [(name, item["check_id"]) for name, item in results(report, "failed") if name != CARELESS] == []
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 50


def test_a_careless_template_does_fail(cloudformation: Json) -> None:
    assert [item["check_id"] for name, item in results(cloudformation, "failed") if name == CARELESS] == ["CKV_AWS_7"]


def test_what_is_skipped_is_known_and_says_why(report: Json) -> None:
    skipped: dict[str, set[str]] = {}
    for name, item in results(report, "skipped"):
        assert len(item["check_result"]["suppress_comment"]) >= LEAST_REASON, (name, item["check_id"])
        skipped.setdefault(name, set()).add(item["check_id"])
    skipped.pop(CARELESS, None)
    assert skipped == (SKIPPED if report["check_type"] == "cloudformation" else {})


def test_no_template_asks_for_a_skip_that_no_check_needs() -> None:
    """checkov is silent about those, so they are counted in the text."""
    for path in (path for path in INFRA.rglob("*") if path.suffix in (".yaml", ".json", ".env")):
        name = f"{path.parent.name}/{path.name}"
        assert path.read_text().count("CKV_") == len(SKIPPED.get(name, ())), name
