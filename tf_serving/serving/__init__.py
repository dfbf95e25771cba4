"""What `python -m tf_serving.server` is made of: TensorFlow Serving's protocol over LiteRT or TensorFlow.

    grpc_services.py ┐                       ┌ batching.py
    rest.py          ┴─ predict.py ─ models.py ─ engines.py ┬ lite.py          model.tflite and model.json: LiteRT
    json_tensors.py                  folders.py             └ saved_model.py   saved_model.pb: TensorFlow

`signatures.py` and `tensors.py` say what a request may hold, `status.py` with which words it is refused,
`configuration.py` and `flags.py` what a server is told, `metrics.py` what it tells.
"""
