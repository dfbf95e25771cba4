"""gRPC's messages follow from the operations, and what was once given to clients stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from pydantic import BaseModel

import gateway.doors.grpc.write as write
from gateway.doors.grpc.compat import breaks
from gateway.doors.grpc.messages import METHODS
from gateway.doors.grpc.schema import FILE, Schema, committed, ours
from gateway.doors.grpc.text import text
from services.operations import OPERATIONS, Operation
from services.pictures import Picture


def with_fields(name: str, **annotations: Any) -> type[Operation]:
    """An operation made up for a test, and as if it were one of ours."""
    return type(name, (Operation,), {"__annotations__": annotations, "__module__": "services.operations"})


def fields(file: FileDescriptorProto, message: str) -> dict[str, FieldDescriptorProto]:
    (found,) = (one for one in file.message_type if one.name == message)
    return {field.name: field for field in found.field}


def in_order(file: FileDescriptorProto) -> FileDescriptorProto:
    """With fields by number and oneofs by name: the text has them in another order, which means nothing."""
    for message in file.message_type:
        names = sorted(one.name for one in message.oneof_decl)
        for field in message.field:
            if field.HasField("oneof_index"):
                field.oneof_index = names.index(message.oneof_decl[field.oneof_index].name)
        message.field.sort(key=lambda field: field.number)
        message.oneof_decl.sort(key=lambda one: one.name)
    return file


def test_the_committed_descriptor_is_what_the_operations_give() -> None:
    before = committed()
    assert before is not None
    now = Schema(ours(), before).file
    assert not breaks(before, now)
    assert now == before, "run `make schemas`: an operation's fields have changed"


def test_the_committed_text_is_what_protoc_makes_the_descriptor_of(tmp_path: Path) -> None:
    assert write.PROTO.read_text() == text(Schema(ours(), committed())), "run `make schemas`"
    source = tmp_path / FILE
    source.parent.mkdir(parents=True)
    source.write_text(write.PROTO.read_text())
    out = tmp_path / "out.binpb"
    include = Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{tmp_path}", f"-I{include}", f"--descriptor_set_out={out}", FILE]
    assert protoc.main(arguments) == 0
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    for message in compiled.message_type:
        for field in message.field:
            field.ClearField("json_name")
    expected = committed()
    assert expected is not None
    assert in_order(compiled) == in_order(expected)


def test_every_operation_and_every_parameter_is_there() -> None:
    file = Schema(OPERATIONS.values(), committed()).file
    members = fields(file, "Ask")
    for operation in OPERATIONS.values():
        assert operation.method() in members
        assert set(fields(file, operation.__name__)) == set(operation.model_fields)
    assert {method.name for method in file.service[0].method} == set(METHODS)


def test_a_new_field_gets_the_next_number_and_one_that_is_gone_is_reserved() -> None:
    first = Schema([with_fields("Blur", image=Picture, radius=int)]).file
    second = Schema([with_fields("Blur", image=Picture, edges=str)], first).file
    assert not breaks(first, second)
    before, now = fields(first, "Blur"), fields(second, "Blur")
    assert now["image"].number == before["image"].number
    assert now["edges"].number == max(field.number for field in before.values()) + 1
    (message,) = (one for one in second.message_type if one.name == "Blur")
    assert [span.start for span in message.reserved_range] == [before["radius"].number]
    assert list(message.reserved_name) == ["radius"]
    third = Schema([with_fields("Blur", image=Picture, edges=str, more=str)], second).file
    assert not breaks(second, third)
    assert fields(third, "Blur")["more"].number == now["edges"].number + 1


def test_an_operation_that_is_gone_leaves_its_number() -> None:
    first = Schema([with_fields("Blur", image=Picture), with_fields("Sharpen", image=Picture)]).file
    second = Schema([with_fields("Sharpen", image=Picture), with_fields("Turn", image=Picture)], first).file
    assert not breaks(first, second)
    assert fields(second, "Ask")["sharpen"].number == fields(first, "Ask")["sharpen"].number == 2
    assert fields(second, "Ask")["turn"].number == 3


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"radius": float}, "Blur.radius was optional int64 and is optional double."),
        ({"radius": list[int]}, "Blur.radius was optional int64 and is repeated int64."),
        ({"radius": Picture}, "Blur.radius was optional int64 and is darkroom.v1.Picture."),
    ],
)
def test_a_field_that_changes_its_type_breaks(now: dict[str, Any], told: str) -> None:
    first = Schema([with_fields("Blur", radius=int)]).file
    assert breaks(first, Schema([with_fields("Blur", **now)], first).file) == [told]


def test_what_comes_without_the_ledger_is_found_out() -> None:
    first = Schema([with_fields("Blur", radius=int, edges=str)]).file
    found = breaks(first, Schema([with_fields("Blur", edges=str)]).file)
    assert any("Blur.radius is gone" in sentence for sentence in found)
    assert any("Blur.edges had the number 3 and has 2" in sentence for sentence in found)
    changed = FileDescriptorProto.FromString(first.SerializeToString())
    changed.service[0].method[0].server_streaming = False
    del changed.service[0].method[1]
    assert len(breaks(first, changed)) == 2


def test_a_break_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger, proto = tmp_path / "darkroom.binpb", tmp_path / "darkroom.proto"
    monkeypatch.setattr(write, "LEDGER", ledger)
    monkeypatch.setattr(write, "PROTO", proto)
    assert write.main() == 0
    assert ledger.read_bytes() and proto.read_text()
    ledger.unlink()
    other = committed()
    assert other is not None
    (message,) = (one for one in other.message_type if one.name == "Caption")
    message.field[0].type = FieldDescriptorProto.TYPE_INT32
    monkeypatch.setattr(write, "committed", lambda: other)
    assert write.main() == 1
    assert "Caption.model was optional int32" in capsys.readouterr().err
    assert not ledger.exists()


def test_an_extensions_numbers_follow_from_names_alone() -> None:
    def of_another(name: str, **annotations: Any) -> type[Operation]:
        made = with_fields(name, **annotations)
        made.__module__ = "somebody.operations"
        return made

    one = Schema([*ours(), of_another("Stamp", image=Picture, number=int)], committed()).file
    other = Schema([of_another("Stamp", number=int, image=Picture, more=str), *ours()], committed()).file
    assert fields(one, "Stamp")["number"].number == fields(other, "Stamp")["number"].number >= 100_000
    assert fields(one, "Ask")["stamp"].number == fields(other, "Ask")["stamp"].number >= 100_000
    assert fields(one, "Ask")["caption"].number == 8


class Dot(BaseModel):
    x: int


def test_types_become_what_they_are_on_the_wire() -> None:
    made = with_fields(
        "Draw",
        dots=list[Dot],
        points=list[tuple[float, float]],
        words=list[str],
        mood=Literal["good", "bad"] | None,
        how=Literal["auto"] | float,
        rest=dict[str, Any],
        nested=list[list[int]],
        file=bytes,
    )
    shape = Schema([made]).shapes.all["Draw"].fields
    told = {name: (kind.type, kind.repeated, kind.group) for name, kind in shape.items()}
    assert told == {
        "model": ("string", False, 0),
        "dots": ("Dot", True, 0),
        "points": ("double", True, 2),
        "words": ("string", True, 0),
        "mood": ("string", False, 0),
        "how": ("TextOrNumber", False, 0),
        "rest": ("google.protobuf.Struct", False, 0),
        "nested": ("google.protobuf.Value", False, 0),
        "file": ("bytes", False, 0),
    }
