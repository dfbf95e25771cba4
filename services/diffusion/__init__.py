"""The diffusion runtime behind the services sdxl and controlnet.

A picture goes `encode -> prepare -> step* -> decode`; `engine.py` lets requests join and leave the batch at every step.
"""
