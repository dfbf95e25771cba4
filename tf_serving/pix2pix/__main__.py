"""`python -m tf_serving.pix2pix`, which is what `darkroom pix2pix` starts."""

from tf_serving.pix2pix.command import main

main()
