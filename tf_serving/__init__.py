"""Pix2Pix and TensorFlow Serving: the life of the model (`pix2pix/`), a server for machines without TensorFlow Serving (`server.py`),
and the client that the gateway reaches either with (`client.py`)."""
