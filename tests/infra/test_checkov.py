"""checkov over all of infra/ that it knows. What it is told to skip says why, and is nothing that it does not ask."""

from pathlib import Path
from typing import Any

import pytest

from support.targets import OVERLAYS
from support.validators import INFRA, checkov, kustomize

pytestmark = pytest.mark.slow
TEMPLATES = sorted((INFRA / "aws").glob("*/template.yaml"))
# Checks that templates may skip; each gives its own reason beside it.
SKIPPED = {
    "lambda/template.yaml": {"CKV_AWS_116", "CKV_AWS_117"},
    "lambda-managed-instances/template.yaml": {"CKV_AWS_115", "CKV_AWS_116", "CKV_AWS_117"},
    "cpu.yaml": {"CKV_K8S_35"},
    "gpu.yaml": {"CKV_K8S_35"},
}
LEAST_REASON = 40  # characters


@pytest.fixture(scope="module")
def cloudformation() -> Any:
    return checkov("cloudformation", TEMPLATES)


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rendered")
    paths = [folder / f"{overlay}.yaml" for overlay in OVERLAYS]
    for overlay, path in zip(OVERLAYS, paths, strict=True):
        path.write_text(kustomize(INFRA / "kubernetes/overlays" / overlay))
    return checkov("kubernetes", paths)


@pytest.mark.parametrize("report", ["cloudformation", "kubernetes"])
def test_nothing_fails(report: str, request: pytest.FixtureRequest) -> None:
    result = request.getfixturevalue(report)
    failed = [
        f"{item['check_id']} {item['resource']}: {item['check_name']}" for item in result["results"]["failed_checks"]
    ]
    assert failed == []
    assert result["summary"]["parsing_errors"] == 0
    assert result["summary"]["passed"] > 50


@pytest.mark.parametrize("report", ["cloudformation", "kubernetes"])
def test_what_is_skipped_is_known_and_says_why(report: str, request: pytest.FixtureRequest) -> None:
    skipped: dict[str, set[str]] = {}
    for item in request.getfixturevalue(report)["results"]["skipped_checks"]:
        assert len(item["check_result"]["suppress_comment"]) >= LEAST_REASON, item["check_id"]
        path = Path(item["file_path"])
        name = f"{path.parent.name}/{path.name}" if path.name == "template.yaml" else path.name
        skipped.setdefault(name, set()).add(item["check_id"])
    mine = {name: checks for name, checks in SKIPPED.items() if ("/" in name) == (report == "cloudformation")}
    assert skipped == mine


def test_no_template_asks_for_a_skip_that_no_check_needs() -> None:
    """checkov is silent about those, so they are counted in the text."""
    for name, checks in SKIPPED.items():
        path = INFRA / "aws" / name if "/" in name else INFRA / "kubernetes/base/deployment.yaml"
        assert path.read_text().count("CKV_") == len(checks)
    assert (INFRA / "aws/sagemaker/template.yaml").read_text().count("CKV_") == 0


def test_a_careless_template_would_fail(tmp_path: Path) -> None:
    careless = tmp_path / "template.yaml"
    careless.write_text((INFRA / "aws/lambda/template.yaml").read_text().replace("EnableKeyRotation: true", ""))
    assert [item["check_id"] for item in checkov("cloudformation", [careless])["results"]["failed_checks"]] == [
        "CKV_AWS_7"
    ]
