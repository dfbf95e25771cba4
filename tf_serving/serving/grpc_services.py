"""The gRPC doors: PredictionService and ModelService, over `Predictor` and `Models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import grpc

from tf_serving.serving.engines import Arrays
from tf_serving.serving.models import Models, Version
from tf_serving.serving.predict import Asked, Predictor
from tf_serving.serving.signatures import Signature, find
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.serving.tensors import proto_of
from tf_serving.stubs import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    MultiInferenceRequest,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    ReloadConfigRequest,
    ReloadConfigResponse,
    SignatureDefMap,
)

SIGNATURE_DEF = "signature_def"
NOT_HERE = (
    "This server makes pictures of pictures: it answers Predict. Classify, Regress and MultiInference need a model "
    "with tf.Example signatures, and TensorFlow Serving itself."
)
Context = Any  # grpc.aio.ServicerContext, of which each request and response type would be one more


class PredictionService:
    def __init__(self, models: Models, predictor: Predictor, seconds: float) -> None:
        self._models, self._predictor, self._seconds = models, predictor, seconds

    async def Predict(self, request: PredictRequest, context: Context) -> PredictResponse:
        def read(signatures: Mapping[str, Signature]) -> Asked:
            name, signature = find(signatures, request.model_spec.signature_name)
            inputs = signature.arrays(request.inputs)
            return Asked(name, inputs, signature.chosen(request.output_filter))

        left = context.time_remaining()
        seconds = self._seconds if left is None else min(left, self._seconds)
        try:
            return await self._predictor.predict(request.model_spec, read, _response, "GRPC", seconds)
        except Refused as error:
            await _abort(context, error)

    async def GetModelMetadata(
        self, request: GetModelMetadataRequest, context: Context
    ) -> GetModelMetadataResponse:
        try:
            return metadata(self._models, request)
        except Refused as error:
            await _abort(context, error)

    async def Classify(self, request: ClassificationRequest, context: Context) -> NoReturn:
        await _abort(context, Refused(Code.UNIMPLEMENTED, NOT_HERE))

    async def Regress(self, request: RegressionRequest, context: Context) -> NoReturn:
        await _abort(context, Refused(Code.UNIMPLEMENTED, NOT_HERE))

    async def MultiInference(self, request: MultiInferenceRequest, context: Context) -> NoReturn:
        await _abort(context, Refused(Code.UNIMPLEMENTED, NOT_HERE))


class ModelService:
    def __init__(self, models: Models) -> None:
        self._models = models

    async def GetModelStatus(
        self, request: GetModelStatusRequest, context: Context
    ) -> GetModelStatusResponse:
        try:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            return GetModelStatusResponse(model_version_status=self._models.states(request.model_spec))
        except Refused as error:
            await _abort(context, error)

    async def HandleReloadConfigRequest(
        self, request: ReloadConfigRequest, context: Context
    ) -> ReloadConfigResponse:
        try:
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            await self._models.configure(request.config)
        except Refused as error:
            await _abort(context, error)
        response = ReloadConfigResponse()
        response.status.error_code = 0
        return response


def metadata(models: Models, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """get_model_metadata_impl.cc."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != SIGNATURE_DEF:
            raise invalid(f"Metadata field {name} is not supported")
    version = models.find(request.model_spec)
    assert version.engine is not None
    signatures = SignatureDefMap()
    for name, signature in version.engine.signatures.items():
        signatures.signature_def[name].CopyFrom(signature.proto())
    response = GetModelMetadataResponse()
    response.model_spec.name = version.model
    response.model_spec.version.value = version.number
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return response


def _response(version: Version, asked: Asked, outputs: Arrays) -> PredictResponse:
    response = PredictResponse()
    response.model_spec.name = version.model
    response.model_spec.version.value = version.number
    response.model_spec.signature_name = asked.signature
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(proto_of(array))
    return response


async def _abort(context: Context, error: Refused) -> NoReturn:
    await context.abort(error.code, error.details)
    raise grpc.aio.AbortError  # abort raises it; mypy is told
