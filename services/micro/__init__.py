"""The micro family: a small SDXL that is really trained, on a world of drawings that this package makes itself."""
