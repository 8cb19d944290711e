"""What CloudFormation asks of AWS for a resource, as the API call that creates it, to be checked by botocore offline.

Owns no state. CloudFormation's properties are the API's parameters but for a few names; what differs is listed here.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import botocore.session
from botocore.model import OperationModel, Shape
from botocore.validate import ParamValidator

Json = dict[str, Any]


class Creation(NamedTuple):
    """The call that makes a resource of a type."""

    service: str
    operation: str
    renamed: Mapping[str, str] = {}  # properties that the call names otherwise
    elsewhere: frozenset[str] = frozenset()  # properties that are set by calls of their own
    added: Mapping[str, Any] = {}  # what the call needs and CloudFormation makes up


CREATIONS: Mapping[str, Creation] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": Creation("application-autoscaling", "RegisterScalableTarget"),
    "AWS::ApplicationAutoScaling::ScalingPolicy": Creation(
        "application-autoscaling",
        "PutScalingPolicy",
        elsewhere=frozenset({"ScalingTargetId"}),
        added={
            "ServiceNamespace": "sagemaker",
            "ResourceId": "inference-component/pagemill-model",
            "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
        },
    ),
    "AWS::CloudWatch::Alarm": Creation("cloudwatch", "PutMetricAlarm", added={"AlarmName": "pagemill"}),
    "AWS::Lambda::Alias": Creation("lambda", "CreateAlias"),
    "AWS::Lambda::CapacityProvider": Creation("lambda", "CreateCapacityProvider"),
    "AWS::Lambda::Function": Creation(
        "lambda",
        "CreateFunction",
        renamed={"KmsKeyArn": "KMSKeyArn"},
        elsewhere=frozenset({"FunctionScalingConfig", "ReservedConcurrentExecutions"}),
    ),
    "AWS::Lambda::Permission": Creation("lambda", "AddPermission", added={"StatementId": "pagemill"}),
    "AWS::Lambda::Url": Creation("lambda", "CreateFunctionUrlConfig", renamed={"TargetFunctionArn": "FunctionName"}),
    "AWS::Logs::LogGroup": Creation(
        "logs",
        "CreateLogGroup",
        renamed={"LogGroupName": "logGroupName", "KmsKeyId": "kmsKeyId"},
        elsewhere=frozenset({"RetentionInDays"}),
    ),
    "AWS::SageMaker::Endpoint": Creation("sagemaker", "CreateEndpoint"),
    "AWS::SageMaker::EndpointConfig": Creation(
        "sagemaker", "CreateEndpointConfig", added={"EndpointConfigName": "pagemill"}
    ),
    "AWS::SageMaker::InferenceComponent": Creation(
        "sagemaker", "CreateInferenceComponent", elsewhere=frozenset({"DeploymentConfig"})
    ),
    "AWS::SageMaker::Model": Creation("sagemaker", "CreateModel", added={"ModelName": "pagemill"}),
}


@cache
def _service(name: str) -> Any:
    return botocore.session.get_session().get_service_model(name)


def operation(service: str, name: str) -> OperationModel:
    """The model of an operation, by the API's name of it."""
    return _service(service).operation_model(name)


def creation_errors(kind: str, properties: Json) -> str:
    """What botocore would refuse in the call that creates the resource; empty if nothing."""
    creation = CREATIONS[kind]
    parameters = {
        creation.renamed.get(name, name): value for name, value in properties.items() if name not in creation.elsewhere
    }
    return call_errors(creation.service, creation.operation, {**parameters, **creation.added})


def call_errors(service: str, name: str, parameters: Json) -> str:
    """What botocore would refuse in a call; empty if nothing."""
    shape = operation(service, name).input_shape
    report: str = ParamValidator().validate(_typed(parameters, shape), shape).generate_report()
    return report


def _typed(value: Any, shape: Shape) -> Any:
    """The value in the types of the shape, as CloudFormation converts it: numbers from and to text, tags to a map."""
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            return {
                name: _typed(item, shape.members[name]) if name in shape.members else item
                for name, item in value.items()
            }
        case "list" if isinstance(value, list):
            return [_typed(item, shape.member) for item in value]
        case "map" if isinstance(value, list):
            return {item["Key"]: item["Value"] for item in value}
        case "map" if isinstance(value, dict):
            return {name: _typed(item, shape.value) for name, item in value.items()}
        case "integer" | "long" if isinstance(value, str) and value.isdecimal():
            return int(value)
        case "string" if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return value
