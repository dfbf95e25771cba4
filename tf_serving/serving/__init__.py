"""What `python -m tf_serving.server` is made of: TensorFlow Serving's protocol over LiteRT or TensorFlow.

grpc_services.py ┐ ┌ batching.py ─ engines.py ┬ lite.py model.tflite and model.json, LiteRT rest.py ┴─
predict.py ─ models.py └ saved_model.py saved_model.pb, TensorFlow json_tensors.py signatures.py, tensors.py
versions on disk: folders.py settings: configuration.py, flags.py
"""
