"""The CloudFormation and SAM templates: what AWS's own validators and models say to them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.aws_calls import CREATIONS, creation_errors
from support.cloudformation import Resolver, read_template, translated
from support.targets import AWS_PARAMETERS
from support.validators import INFRA

TEMPLATES = sorted((INFRA / "aws").glob("*/template.yaml"))
SAM = [path for path in TEMPLATES if "Transform: AWS::Serverless" in path.read_text()]
BY_FOLDER = [pytest.param(path, id=path.parent.name) for path in TEMPLATES]
SAM_BY_FOLDER = [pytest.param(path, id=path.parent.name) for path in SAM]
LAMBDA = INFRA / "aws/lambda/template.yaml"
OPTIONS = {
    "ApiKeySecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:pagemill-abcdef",
    "ApiKeySecretVersionId": "11111111-2222-3333-4444-555555555555",
    "AlarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:alarms",
    "ModelBucket": "models-of-ours",
    "ModelKey": "llama/model.gguf",
}
LINT = Path(sys.executable).with_name("cfn-lint")
# SAM's translator replaces references to this by its value, so nothing refers to it afterwards.
TRANSLATED_AWAY = ["--ignore-checks", "W2001"]


def cfn_lint(path: Path, *options: str) -> str:
    done = subprocess.run([LINT, *options, "--", str(path)], capture_output=True, text=True)
    return done.stdout + done.stderr


def resolved(path: Path, **given: Any) -> dict[str, Any]:
    """The template's resources, deployed with these parameters beside those that it must have."""
    return Resolver(read_template(path), {**AWS_PARAMETERS[path.parent.name], **given}).resources()


@pytest.mark.parametrize("path", BY_FOLDER)
def test_cfn_lint_finds_nothing(path: Path) -> None:
    assert cfn_lint(path) == ""


@pytest.mark.slow
@pytest.mark.parametrize("path", SAM_BY_FOLDER)
def test_what_sam_makes_of_a_template_is_valid_too(path: Path, tmp_path: Path) -> None:
    assert cfn_lint(translated(read_template(path), tmp_path), *TRANSLATED_AWAY) == ""


@pytest.mark.slow
def test_a_wrong_value_would_be_found(tmp_path: Path) -> None:
    template = read_template(SAM[0])
    template["Resources"]["Function"]["Properties"]["FunctionUrlConfig"]["InvokeMode"] = "STREAM"
    assert "'STREAM' is not one of ['BUFFERED', 'RESPONSE_STREAM']" in cfn_lint(translated(template, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("path", BY_FOLDER)
@pytest.mark.parametrize("with_options", [False, True])
def test_the_apis_take_what_cloudformation_asks_of_them(path: Path, with_options: bool, tmp_path: Path) -> None:
    template = read_template(path)
    if path in SAM:
        template = read_template(translated(template, tmp_path))
    given = {**AWS_PARAMETERS[path.parent.name], **(OPTIONS if with_options else {})}
    refused, num_checked = {}, 0
    for name, resource in Resolver(template, given).resources().items():
        if resource["Type"] in CREATIONS:
            num_checked += 1
            if errors := creation_errors(resource["Type"], resource["Properties"]):
                refused[name] = errors
    assert refused == {}
    assert num_checked >= 5


@pytest.mark.parametrize("path", BY_FOLDER)
def test_templates_use_no_yaml_aliases_which_cloudformation_does_not_support(path: Path) -> None:
    events = yaml.parse(path.read_text(), Loader=yaml.SafeLoader)
    assert [event for event in events if isinstance(event, yaml.AliasEvent)] == []


@pytest.mark.parametrize("path", BY_FOLDER)
def test_every_parameter_is_explained_or_of_a_type_that_explains_it(path: Path) -> None:
    declared = read_template(path)["Parameters"]
    plain = {"Architecture", "MaxEnvironments", "TimeoutS", "DeploymentPreference"}
    unexplained = {
        name for name, item in declared.items() if "Description" not in item and not item["Type"].startswith("AWS::")
    }
    assert unexplained <= plain


@pytest.mark.parametrize("path", BY_FOLDER)
def test_no_policy_allows_every_action_or_an_unexplained_everything(path: Path) -> None:
    """The account's administration of its own keys apart. `Resource: "*"` stands only where AWS has none to name."""
    nameless = {
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "ecr:GetAuthorizationToken",
        "cloudwatch:PutMetricData",
    }
    num_statements = 0
    for name, resource in resolved(path, **OPTIONS).items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
        for statement in (statement for document in documents for statement in document["Statement"]):
            num_statements += 1
            actions = statement["Action"]
            actions = {actions} if isinstance(actions, str) else set(actions)
            assert not any("*" in action for action in actions), f"{name}: {actions}"
            if statement["Resource"] == "*":
                assert actions <= nameless, f"{name}: {actions}"
    assert num_statements >= 4


@pytest.mark.parametrize("path", SAM_BY_FOLDER)
def test_a_deployment_is_rolled_back_by_alarms_on_the_alias_that_it_moves(path: Path) -> None:
    resources = resolved(path)
    function = resources["Function"]["Properties"]
    alias = f"pagemill:{function['AutoPublishAlias']}"
    watched = function["DeploymentPreference"]["Alarms"]
    assert {resources[name]["Properties"]["MetricName"] for name in watched} == {"Errors", "Url5xxCount"}
    for name in watched:
        dimensions = {item["Name"]: item["Value"] for item in resources[name]["Properties"]["Dimensions"]}
        assert dimensions["Resource"] == alias
    assert function["AutoPublishAliasAllProperties"] is True


def test_without_a_key_the_function_url_asks_for_iam_and_nobody_is_let_in() -> None:
    resources = resolved(LAMBDA)
    function = resources["Function"]["Properties"]
    assert function["FunctionUrlConfig"] == {"AuthType": "AWS_IAM", "InvokeMode": "RESPONSE_STREAM"}
    assert "PAGEMILL_API_KEY" not in function["Environment"]["Variables"]
    assert not {"PublicUrl", "PublicInvoke"} & set(resources)


def test_with_a_key_the_url_is_open_and_the_process_asks_for_the_key_of_that_version() -> None:
    resources = resolved(LAMBDA, **OPTIONS)
    function = resources["Function"]["Properties"]
    assert function["FunctionUrlConfig"]["AuthType"] == "NONE"
    assert function["Environment"]["Variables"]["PAGEMILL_API_KEY"] == (
        f"{{{{resolve:secretsmanager:{OPTIONS['ApiKeySecretArn']}:SecretString:::{OPTIONS['ApiKeySecretVersionId']}}}}}"
    )
    assert resources["PublicUrl"]["Properties"]["FunctionUrlAuthType"] == "NONE"
    assert resources["PublicInvoke"]["Properties"]["InvokedViaFunctionUrl"] is True


def test_the_function_may_read_the_model_it_fetches_and_nothing_else() -> None:
    resources = resolved(LAMBDA, **OPTIONS)
    policies = {item["PolicyName"]: item for item in resources["Role"]["Properties"]["Policies"]}
    statements = policies["read-the-model"]["PolicyDocument"]["Statement"]
    assert [item["Resource"] for item in statements] == [
        "arn:aws:s3:::models-of-ours/llama/model.gguf*",
        "arn:aws:s3:::models-of-ours",
    ]
    variables = resources["Function"]["Properties"]["Environment"]["Variables"]
    assert variables["PAGEMILL_MODEL"] == "s3://models-of-ours/llama/model.gguf"


def test_managed_instances_take_as_many_requests_as_the_engine_runs() -> None:
    function = resolved(INFRA / "aws/lambda-managed-instances/template.yaml", MaxNumSeqs=24)["Function"]["Properties"]
    assert function["CapacityProviderConfig"]["PerExecutionEnvironmentMaxConcurrency"] == 24
    assert function["Environment"]["Variables"]["PAGEMILL_MAX_NUM_SEQS"] == 24


def test_the_sagemaker_endpoint_goes_down_to_nothing_and_comes_back_when_somebody_asks() -> None:
    resources = resolved(INFRA / "aws/sagemaker/template.yaml")
    (variant,) = resources["EndpointConfig"]["Properties"]["ProductionVariants"]
    assert variant["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert resources["Copies"]["Properties"]["MinCapacity"] == 0
    component = resources["Component"]["Properties"]["InferenceComponentName"]
    assert resources["Copies"]["Properties"]["ResourceId"] == f"inference-component/{component}"
    alarm = resources["NoCapacityAlarm"]["Properties"]
    assert alarm["Dimensions"] == [{"Name": "InferenceComponentName", "Value": component}]
    assert alarm["AlarmActions"][0].startswith("arn:aws:autoscaling:")
    assert alarm["AlarmActions"][0].endswith(":WakeUp")
