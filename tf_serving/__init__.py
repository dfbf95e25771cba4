"""Pix2Pix and TensorFlow Serving: the model's life (`pix2pix/`), a server for machines that the official one does not
run on (`server.py`), and the client by which the gateway reaches either (`client.py`).
"""
