# Beside docker/bake.hcl: the stand-ins for what compose.yaml takes from a registry.
target "servers" {
  inherits   = ["common"]
  context    = "tests/images/stand_ins"
  dockerfile = "Dockerfile"
  tags       = ["darkroom-test/servers"]
}
