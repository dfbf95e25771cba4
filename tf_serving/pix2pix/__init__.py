"""The whole life of a Pix2Pix model: data, training, tuning, judging, export, conversion. Needs TensorFlow.

Read in this order: `ranges` (the only place where ranges change), `creatures` (a world to learn), `data`, `model`,
`train`, `tune`, `report`, `graph` and `export` (what is served), `convert` (the same for LiteRT), `command`.
"""
