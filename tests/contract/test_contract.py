"""What the daemon publishes of itself is valid, by the judgement of public validators."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from aurexd.protocol.schema import asyncapi_document
from aurexd.server.openapi import openapi_document

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent

NO_MATTER = {
    "asyncapi-latest-version",  # 3.0 is what the tools of others read
}
"""What the parser remarks, and is meant so."""


def found_in_asyncapi(document: dict[str, Any]) -> list[tuple[str, str]]:
    """(rule, path) of everything that AsyncAPI's own parser finds."""
    assert (HERE / "node_modules").is_dir(), "`make test` installs it: npm ci --prefix tests/contract"
    done = subprocess.run(
        ["node", "asyncapi.js"],
        cwd=HERE,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.stderr, done.stderr
    remarks = [json.loads(line) for line in done.stdout.splitlines()]
    return [(remark["code"], remark["path"]) for remark in remarks if remark["code"] not in NO_MATTER]


def test_the_asyncapi_document_is_valid() -> None:
    assert found_in_asyncapi(asyncapi_document()) == []


def test_the_parser_would_say_what_is_wrong() -> None:
    document = copy.deepcopy(asyncapi_document())
    document["operations"]["sendWelcome"]["action"] = "shout"
    assert any(path == "operations.sendWelcome.action" for _, path in found_in_asyncapi(document))


def test_what_it_needs_is_installed_from_whatever_registry_there_is() -> None:
    """npm writes the registry's address into the lock file, unless `.npmrc` says that it is not to."""
    assert "resolved" not in (HERE / "package-lock.json").read_text()


def found_in_openapi(document: dict[str, Any]) -> list[str]:
    """Everything that the OpenAPI validator finds."""
    return [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]


def test_the_openapi_document_is_valid() -> None:
    assert found_in_openapi(openapi_document()) == []


def test_the_validator_would_say_what_is_wrong() -> None:
    document = copy.deepcopy(openapi_document())
    document["paths"]["/page/{name}"]["get"]["parameters"].clear()
    assert any("'name'" in message for message in found_in_openapi(document))
    document = copy.deepcopy(openapi_document())
    document["components"]["schemas"]["History"]["type"] = "thing"
    assert found_in_openapi(document)
