"""Every target's page: that it says what it must, and that its commands could be typed."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from support.aws_calls import call_errors, operation
from support.cloudformation import read_template
from support.pages import AwsCommand, commands, section, sections
from support.validators import INFRA, ROOT

PAGES = sorted(path for path in INFRA.rglob("README.md") if path.parent != INFRA)
BY_FOLDER = [pytest.param(page, id=str(page.parent.relative_to(INFRA))) for page in PAGES]
SECTIONS = ["What it costs at rest", "Deploy", "Roll back", "Watch", "Limits", "What is not tested"]
AWS = [
    pytest.param(AwsCommand.of(words), id=" ".join(words[:3]))
    for page in PAGES
    for words in commands(page)
    if words[0] == "aws"
]
# Commands of AWS's command line that are no operation of an API.
AWS_OWN = {("cloudformation", "deploy"), ("s3", "sync"), ("logs", "tail"), ("sagemaker", "wait")}
AWS_GLOBAL_FLAGS = {"query", "output"}
SERVICES = {"deploy": "codedeploy"}  # what the command line names otherwise than the API


def test_every_folder_with_a_template_has_a_page() -> None:
    suffixes = {".yaml", ".json"}
    folders = {path.parent for path in INFRA.rglob("*") if path.suffix in suffixes} - {INFRA}
    inside = {folder for folder in folders if not (folder / "README.md").exists()}
    assert {folder.relative_to(INFRA).parts[0] for folder in inside} == {"kubernetes"}  # its parts share one page


def test_the_index_leads_to_every_page() -> None:
    links = set(re.findall(r"\]\(([^)]+README\.md)\)", (INFRA / "README.md").read_text()))
    assert links == {str(page.relative_to(INFRA)) for page in PAGES}


@pytest.mark.parametrize("page", BY_FOLDER)
def test_a_page_says_what_it_must(page: Path) -> None:
    found = [title for title in sections(page) if title in SECTIONS]
    assert found == SECTIONS
    assert "Never " in section(page, "What is not tested")
    assert re.search(r"\d", section(page, "What it costs at rest"))
    for title in ("Deploy", "Roll back"):
        assert "```console" in section(page, title)


@pytest.mark.parametrize("page", BY_FOLDER)
def test_files_in_commands_exist(page: Path) -> None:
    mentioned = set(itertools.chain.from_iterable(commands(page)))
    paths = {word for word in mentioned if word.startswith("infra/")}
    assert {path for path in paths if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", BY_FOLDER)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("command", AWS)
def test_an_aws_command_is_a_call_that_the_api_takes(command: AwsCommand) -> None:
    if (command.service, command.operation) in AWS_OWN:
        return
    service = SERVICES.get(command.service, command.service)
    name = "".join(part.capitalize() for part in command.operation.split("-"))
    shape = operation(service, name).input_shape
    members = {xform_name(member, "-"): member for member in shape.members}
    assert set(command.flags) - AWS_GLOBAL_FLAGS <= set(members)
    given = {
        members[flag]: _value(shape.members[members[flag]], words)
        for flag, words in command.flags.items()
        if flag not in AWS_GLOBAL_FLAGS
    }
    assert call_errors(service, name, given) == ""


def _value(shape: Any, words: tuple[str, ...]) -> Any:
    """The parameter that the words of a flag make, in the command line's shorthand."""
    match shape.type_name:
        case "boolean":
            assert words == ()
            return True
        case "list":
            return [_value(shape.member, (word,)) for word in words]
        case "structure":
            (word,) = words
            return dict(pair.split("=", 1) for pair in word.split(","))
        case "blob":
            return words[0].encode()  # behind it the file for the answer, which has no flag
    (word,) = words
    return word


@pytest.mark.parametrize("page", [item for item in BY_FOLDER if str(item.id).startswith("aws/")])
def test_a_deployment_gives_every_parameter_that_its_template_needs_and_no_other(page: Path) -> None:
    (deployment,) = (
        AwsCommand.of(words) for words in commands(page) if words[:3] == ["aws", "cloudformation", "deploy"]
    )
    (template,) = deployment.flags["template-file"]
    assert ROOT / template == page.parent / "template.yaml"
    declared = read_template(ROOT / template)["Parameters"]
    given = {word.partition("=")[0] for word in deployment.flags["parameter-overrides"]}
    assert given <= set(declared)
    assert {name for name, item in declared.items() if "Default" not in item} == given


def test_there_are_commands_to_check() -> None:
    assert len(AWS) >= 10
