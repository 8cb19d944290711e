"""Prints what AWS makes of a SAM template: the plain CloudFormation, as JSON.

Run by the Python of `.venv-infra`, which has AWS's own translator; it pins libraries to versions that the project does
not use. Intrinsic functions are in their long form in what it reads, as `support/cloudformation.py` writes it.
"""

import json
import sys

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

if __name__ == "__main__":
    template = json.load(sys.stdin)
    json.dump(Translator({}, Parser()).translate(template, {}), sys.stdout)
