"""Writes an image's bill of materials, in CycloneDX: `python sbom.py PREFIX DPKG_STATUS`, to PREFIX/sbom.cdx.json.

cyclonedx-py lists the environment's Python packages; the base's Debian packages, from the dpkg status of the image's
last stage, and the interpreter are added here. Runs in the tools' environment, where cyclonedx-bom is. Owns no state.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SPEC = "1.6"


def main() -> None:
    prefix, status = Path(sys.argv[1]), Path(sys.argv[2])
    bill = python_packages(prefix)
    components = bill.setdefault("components", [])
    components += [interpreter(prefix), *debian_packages(status.read_text())]
    text = json.dumps(bill, indent=1, sort_keys=True)
    if error := JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text):
        sys.exit(f"the bill of materials is not valid CycloneDX {SPEC}: {error}")
    (prefix / "sbom.cdx.json").write_text(text)
    print(f"bill of materials: {len(components)} components")


def python_packages(prefix: Path) -> dict[str, Any]:
    """The bill of the environment as cyclonedx-py makes it, without serial number and time: the same build, the same
    bill.
    """
    tool = Path(sys.executable).with_name("cyclonedx-py")
    options = ("--output-reproducible", "--spec-version", SPEC, "--output-format", "JSON", "--output-file", "-")
    command = [str(tool), "environment", *options, str(prefix / "bin/python")]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    bill: dict[str, Any] = json.loads(made.stdout)
    return bill


def interpreter(prefix: Path) -> dict[str, str]:
    """The Python that the environment stands on, which a base may have without a package."""
    command = [str(prefix / "bin/python"), "-c", "import platform; print(platform.python_version())"]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return {
        "type": "platform",
        "bom-ref": f"cpython@{version}",
        "name": "cpython",
        "version": version,
        "purl": f"pkg:generic/cpython@{version}",
    }


def debian_packages(status: str) -> Iterator[dict[str, str]]:
    """A component for each package that dpkg's status file calls installed."""
    for paragraph in status.split("\n\n"):
        package = Parser().parsestr(paragraph)
        if not package.get("Status", "").endswith(" installed"):
            continue
        name, version, machine = package["Package"], package["Version"], package["Architecture"]
        purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}?arch={machine}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
