"""Pictures from words and from other pictures, by Stable Diffusion XL and its relatives."""
