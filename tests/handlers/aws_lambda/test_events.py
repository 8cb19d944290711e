"""What is read out of events beyond what the answers' tests show: where the app's path begins, and who can stream."""

import pytest

from pagemill_handlers.aws_lambda.events import can_stream, root_path
from support.lambda_runtime import KINDS, event


@pytest.mark.parametrize(("kind", "expected"), list(zip(KINDS, (True, False, True, False), strict=True)))
def test_function_urls_and_rest_apis_can_stream(kind: str, expected: bool) -> None:
    assert can_stream(event(kind)) == expected


def test_an_http_api_that_sends_payload_1_is_no_rest_api() -> None:
    assert not can_stream({**event("rest_api"), "version": "1.0"})


def test_an_http_apis_stage_is_not_the_apps() -> None:
    assert root_path(event("http_api"), "/configured") == "/prod"


def test_a_rest_apis_stage_is_not_in_the_path_even_if_the_path_begins_like_it() -> None:
    assert event("rest_api")["requestContext"]["stage"] == "v1"
    assert root_path(event("rest_api"), "") == ""


def test_under_a_domain_of_ones_own_the_stage_is_not_in_the_path() -> None:
    found = event("http_api")
    found["requestContext"] |= {"domainName": "llm.example.org", "domainPrefix": "llm", "stage": "v1"}
    found["rawPath"] = "/v1/models"
    assert root_path(found, "") == ""


def test_a_default_stage_leaves_the_configured_root_path() -> None:
    assert root_path(event("function_url"), "/llm") == "/llm"
    assert root_path(event("load_balancer"), "/llm") == "/llm"


def test_a_stage_that_only_resembles_the_path_is_left_alone() -> None:
    found = event("http_api")
    found["rawPath"] = "/production/v1/models"
    assert root_path(found, "") == ""
