"""What a model offers: signatures with named inputs and outputs; and the checks that a request's inputs pass
before a model sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.serving.tensors import MAX_ELEMENTS, Array, array_of, shape_of, type_name
from tf_serving.stubs import SignatureDef, TensorInfo, TensorProto

DEFAULT = "serving_default"
METHOD = "tensorflow/serving/predict"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: its type and its shape, in which -1 is any size and None any rank."""

    dtype: int
    shape: tuple[int, ...] | None
    name: str = ""  # in the graph

    def check(self, alias: str, shape: Sequence[int]) -> None:
        """TensorFlow Serving leaves this to the graph, whose words depend on what is in it."""
        if self.shape is None:
            return
        sizes = zip(self.shape, shape, strict=False)
        if len(shape) != len(self.shape) or any(want not in (-1, size) for want, size in sizes):
            raise invalid(
                f"The input {alias} has the shape {_shape(shape)}; the signature wants {_shape(self.shape)}, where -1 "
                "is any size."
            )


@dataclass(frozen=True, slots=True)
class Signature:
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    method: str = METHOD

    def check_count(self, given: Iterable[str]) -> None:
        """predict_util.cc, VerifyRequestInputsSize; then what saved_model::GetInputValues says of a wrong name."""
        sent, wanted = set(given), set(self.inputs)
        if len(sent) != len(wanted):
            raise invalid(
                f"input size does not match signature: {len(sent)}!={len(wanted)} len({_set(sent)}) != "
                f"len({_set(wanted)}). Sent extra: {_set(sent - wanted)}. Missing but required: {_set(wanted - sent)}."
            )
        for alias in sorted(sent - wanted):
            raise invalid(
                f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {_set(wanted)}."
            )

    def arrays(self, given: Mapping[str, TensorProto], max_elements: int = MAX_ELEMENTS) -> dict[str, Array]:
        """The request's tensors, if they are what the signature wants."""
        self.check_count(given)
        found = {alias: array_of(proto, alias, max_elements) for alias, proto in given.items()}
        for index, alias in enumerate(sorted(self.inputs)):
            want, dtype = self.inputs[alias], given[alias].dtype
            if dtype != want.dtype:  # tensorflow/core/framework/function.cc, FunctionCallFrame::SetArgs
                raise invalid(
                    f"Expects arg[{index}] to be {type_name(want.dtype)} but {type_name(dtype)} is provided"
                )
            want.check(alias, found[alias].shape)
        return found

    def chosen(self, wanted: Sequence[str]) -> list[str]:
        """The outputs that a request asked for by `output_filter`; all of them where it asked for none."""
        seen: set[str] = set()
        for alias in wanted:
            if alias not in self.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                    f"{_set(self.outputs)}."
                )
            if alias in seen:
                raise invalid(f"duplicate output tensor alias: {alias}")
            seen.add(alias)
        return list(wanted) or list(self.outputs)

    def proto(self) -> SignatureDef:
        found = SignatureDef(method_name=self.method)
        for alias, tensor in self.inputs.items():
            found.inputs[alias].CopyFrom(_info(alias, tensor))
        for alias, tensor in self.outputs.items():
            found.outputs[alias].CopyFrom(_info(alias, tensor))
        return found


def of_proto(proto: SignatureDef) -> Signature:
    return Signature(
        {alias: _tensor(info) for alias, info in proto.inputs.items()},
        {alias: _tensor(info) for alias, info in proto.outputs.items()},
        proto.method_name,
    )


def find(signatures: Mapping[str, Signature], name: str) -> tuple[str, Signature]:
    """predict_util.cc, RunPredict."""
    name = name or DEFAULT
    if name not in signatures:
        raise Refused(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return name, signatures[name]


def _tensor(info: TensorInfo) -> Tensor:
    shape = info.tensor_shape
    return Tensor(info.dtype, None if shape.unknown_rank else tuple(dim.size for dim in shape.dim), info.name)


def _info(alias: str, tensor: Tensor) -> TensorInfo:
    info = TensorInfo(name=tensor.name or alias, dtype=tensor.dtype)
    if tensor.shape is None:
        info.tensor_shape.unknown_rank = True
    else:
        info.tensor_shape.CopyFrom(shape_of(tensor.shape))
    return info


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _shape(shape: Sequence[int]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"
