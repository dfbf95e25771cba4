# Beside docker/bake.hcl: the stand-ins for what comes from a registry.
target "servers" {
  inherits   = ["common"]
  context    = "tests/images/stand_ins"
  dockerfile = "Dockerfile"
  tags       = ["darkroom-test/servers"]
}

# what stands for the official TensorFlow Serving, made of the pix2pix image; and after it docker/tf-serving/Dockerfile on that
target "tf-serving-base" {
  inherits   = ["common"]
  context    = "tests/images/stand_ins/tf_serving"
  dockerfile = "Dockerfile"
  args       = { BASE = "${REGISTRY}darkroom/pix2pix:${VERSION}" }
  tags       = ["darkroom-test/tf-serving-base"]
}

target "tf-serving-trial" {
  inherits = ["tf-serving"]
  args     = { BASE = "darkroom-test/tf-serving-base" }
  tags     = ["darkroom-test/tf-serving"]
}
