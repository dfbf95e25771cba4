"""How the shipped matting net is made: `textures`, `shapes` and `scenes` draw its lessons, `train` gives them."""
