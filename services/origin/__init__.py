"""What a generated picture says of itself: its parameters as text, and a signed note that a model made it."""
