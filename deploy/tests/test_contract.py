"""The contract for other services: every kind has its row, its example can be read, and its test exists."""

import importlib
import re
import subprocess
import sys

import contract
import pytest
from asyncapi3.models.asyncapi import AsyncAPI3
from google.protobuf import json_format

from settings import ROOT

GROUPS = contract.groups()
KINDS = {"InboundMessage": "content", "SendMessage": "content", "Outcome": "result"}
"""The choice that the kinds of a payload are of."""
ROWS = [(group, kind) for group in GROUPS for kind in group.kinds]


@pytest.fixture(scope="module")
def types(tmp_path_factory):
    """The payloads, made of proto/ as docs say."""
    made = tmp_path_factory.mktemp("types")
    files = [f"{contract.PROTO}/{name}.proto" for name in ("identity", *contract.FILES.values())]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", f"--python_out={made}", *files], cwd=ROOT, check=True)
    sys.path.insert(0, str(made))
    yield {name: getattr(importlib.import_module(f"whatsapp.connector.v1.{file}_pb2"), name) for name, file in contract.FILES.items()}
    sys.path.remove(str(made))


def test_what_is_made_of_the_rows_is_as_it_would_be_made():
    for path, text in contract.written(GROUPS).items():
        assert path.read_text() == text, f"run `make contract`: {path}"


def test_every_kind_of_the_schema_has_its_row(types):
    for payload, oneof in KINDS.items():
        fields = {field.name for field in types[payload].DESCRIPTOR.oneofs_by_name[oneof].fields}
        rows = [kind.name for group, kind in ROWS if group.payload == payload]
        assert sorted(rows) == sorted(fields), payload


@pytest.mark.parametrize(("group", "kind"), ROWS, ids=[f"{group.name}-{kind.name}" for group, kind in ROWS])
def test_an_example_is_of_its_kind_and_its_tests_exist(types, group, kind):
    if note := contract.NOTES.get(group.payload):
        of = {"integer": int, "string": str}
        assert {name: type(value) for name, value in kind.example.items()} == {name: of[field["type"]] for name, field in note.items()}
    else:
        read = json_format.ParseDict(kind.example, types[group.payload]())
    if group.payload in KINDS:
        assert list(json_format.MessageToDict(read, preserving_proto_field_name=True)) == [kind.name]
    exist(kind.tests)


@pytest.mark.parametrize("endpoint", contract.endpoints(), ids=lambda endpoint: endpoint.name)
def test_the_tests_of_an_endpoint_exist(endpoint):
    exist(endpoint.tests)


def exist(tests):
    assert tests
    for test in tests:
        module, function = test.split("::")
        assert re.search(rf"\basync fn {function}\b", (ROOT / f"tests/{module}.rs").read_text()), test


def test_the_document_is_asyncapi_3():
    AsyncAPI3.model_validate(contract.document(GROUPS))


def test_a_document_that_is_none_is_refused():
    broken = contract.document(GROUPS)
    broken["operations"]["sends"]["action"] = "publish"
    with pytest.raises(ValueError, match="action"):
        AsyncAPI3.model_validate(broken)
