"""`darkroom models`: what the catalogue has, what is on this disk, and the way from the hub to it."""
