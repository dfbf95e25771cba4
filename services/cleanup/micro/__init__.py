"""How the shipped net of the cleanup service was made: its shape, the pictures that it learned from, its training."""
