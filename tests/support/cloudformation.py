"""CloudFormation templates as data: with their intrinsic functions, and resolved to what a deployment would ask for.

Owns no state. Knows the functions that our templates use; one that it does not know is a KeyError. What only a real
deployment knows (ARNs, names of other resources) is made up in the right form, so that validators accept it.
"""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfnlint.decode import cfn_yaml

from support.validators import INFRA_BIN, clean_environment

Json = dict[str, Any]
ABSENT = object()  # what AWS::NoValue becomes: its key or item is left out
PSEUDO: Mapping[str, Any] = {
    "AWS::StackName": "pagemill",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": ABSENT,
}
ARN = "arn:aws:{}:eu-central-1:123456789012:{}"
ARNS: Mapping[str, str] = {  # by resource type; {} is the logical id
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/{}",
    "AWS::KMS::Key": ARN.format("kms", "key/{}"),
    "AWS::Logs::LogGroup": ARN.format("logs", "log-group:{}:*"),
    "AWS::Lambda::Function": ARN.format("lambda", "function:{}"),
    "AWS::Serverless::Function": ARN.format("lambda", "function:{}"),
    "AWS::Lambda::CapacityProvider": ARN.format("lambda", "capacity-provider:{}"),
    "AWS::ApplicationAutoScaling::ScalingPolicy": ARN.format("autoscaling", "scalingPolicy:{}"),
}


def read_template(path: Path) -> Json:
    """The template with its functions in their long form, as plain JSON types."""
    template: Json = json.loads(json.dumps(cfn_yaml.load(str(path))))
    return template


def translated(template: Json, scratch: Path) -> Path:
    """The template after SAM's transform, as a file, as AWS itself makes it."""
    path = scratch / "translated.json"
    command = [INFRA_BIN / "python", Path(__file__).with_name("translate_sam.py")]
    environment = clean_environment() | {"AWS_DEFAULT_REGION": str(PSEUDO["AWS::Region"])}
    made = subprocess.run(command, input=json.dumps(template), text=True, capture_output=True, env=environment)
    assert made.returncode == 0, made.stderr
    path.write_text(made.stdout)
    return path


@dataclass(frozen=True, slots=True)
class Resolver:
    """Resolves a template with parameters; those that are not given have their defaults."""

    template: Json
    given: Mapping[str, Any] = field(default_factory=dict)

    def resources(self) -> dict[str, Json]:
        """Every resource that exists under the parameters' conditions, without functions."""
        return {
            name: self.resolve(resource)
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource or self._condition(resource["Condition"])
        }

    def resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not ABSENT]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._functions()[name](argument)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not ABSENT}

    def _functions(self) -> Mapping[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::If": lambda parts: self.resolve(parts[1] if self._condition(parts[0]) else parts[2]),
            "Fn::Equals": lambda parts: str(self.resolve(parts[0])) == str(self.resolve(parts[1])),
            "Fn::Not": lambda parts: not self.resolve(parts[0]),
        }

    def _condition(self, name: str) -> bool:
        return bool(self.resolve(self.template["Conditions"][name]))

    def _ref(self, name: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.template.get("Parameters", {}):
            return self._parameter(name)
        kind = self.template["Resources"][name.removesuffix(".Alias")]["Type"]  # Function.Alias is SAM's
        return ARNS[kind].format(name) if kind == "AWS::ApplicationAutoScaling::ScalingPolicy" else name

    def _parameter(self, name: str) -> Any:
        declared = self.template["Parameters"][name]
        value = self.given.get(name, declared.get("Default"))
        if value is None:
            raise KeyError(f"the parameter {name} has no default and was not given")
        return str(value).split(",") if "List" in declared["Type"] else value

    def _get_att(self, argument: list[str] | str) -> str:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        kind = self.template["Resources"].get(name, {}).get("Type")
        return ARNS[kind].format(name) if attribute == "Arn" else f"{name}{attribute.replace('.', '')}"

    def _sub(self, argument: str | list[Any]) -> str:
        text, local = (argument, {}) if isinstance(argument, str) else argument

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in local:
                return str(self.resolve(local[name]))
            return str(self._get_att(name) if "." in name else self._ref(name))

        return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", value, text)
