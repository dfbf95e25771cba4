# Every image, with its variants:
#
#   docker buildx bake --file docker/bake.hcl              what runs on processors, for this machine
#   docker buildx bake --file docker/bake.hcl gpu          what runs on NVIDIA's GPUs
#   docker buildx bake --file docker/bake.hcl release      all of it, for all platforms, with SBOM and provenance, pushed
#
# Each variable is read from the environment: `REGISTRY=registry.example.org/ VERSION=0.2.0 docker buildx bake ...`.

variable "REGISTRY" { default = "" }                         # a prefix with its slash
variable "VERSION"  { default = "0.1.0" }
variable "REVISION" { default = "unknown" }                  # git rev-parse HEAD
variable "BASE"     { default = "python:3.11-slim-bookworm" } # with @sha256:... it is pinned for good
variable "BUILDER"  { default = "" }                         # another base for what is thrown away; else BASE
variable "TF_SERVING_BASE" { default = "tensorflow/serving:2.19.0" }
variable "TORCH_CPU_INDEX" { default = "https://download.pytorch.org/whl/cpu" }
# behind a mirror: files with pip's configuration and with the certificates that it names as /run/secrets/ca, and `host`
# where both are reached through this machine alone
variable "PIP_CONF" { default = "" }
variable "CA_CERTS" { default = "" }
variable "NETWORK"  { default = "default" }

group "default" { targets = ["cpu"] }
group "cpu"     { targets = ["gateway", "rmbg", "cleanup", "portrait", "caption", "diffusion", "pix2pix"] }
group "gpu"     { targets = ["rmbg-cuda", "cleanup-cuda", "portrait-cuda", "caption-cuda", "diffusion-cuda"] }
group "release" { targets = ["released", "released-cuda"] }

target "common" {
  context = "."
  network = NETWORK
  args = {
    BASE     = BASE
    BUILDER  = BUILDER != "" ? BUILDER : BASE
    VERSION  = VERSION
    REVISION = REVISION
  }
  secret = concat(
    PIP_CONF != "" ? ["id=pip,src=${PIP_CONF}"] : [],
    CA_CERTS != "" ? ["id=ca,src=${CA_CERTS}"] : [],
  )
}

target "gateway" {
  inherits   = ["common"]
  dockerfile = "docker/gateway/Dockerfile"
  tags       = ["${REGISTRY}darkroom/gateway:${VERSION}"]
}

target "rmbg" {
  inherits   = ["common"]
  dockerfile = "docker/rmbg/Dockerfile"
  tags       = ["${REGISTRY}darkroom/rmbg:${VERSION}"]
}

target "cleanup" {
  inherits   = ["common"]
  dockerfile = "docker/cleanup/Dockerfile"
  tags       = ["${REGISTRY}darkroom/cleanup:${VERSION}"]
}

target "portrait" {
  inherits   = ["common"]
  dockerfile = "docker/portrait/Dockerfile"
  tags       = ["${REGISTRY}darkroom/portrait:${VERSION}"]
}

target "caption" {
  inherits   = ["common"]
  dockerfile = "docker/caption/Dockerfile"
  args       = { TORCH_INDEX = TORCH_CPU_INDEX }
  tags       = ["${REGISTRY}darkroom/caption:${VERSION}"]
}

target "diffusion" {
  inherits   = ["common"]
  dockerfile = "docker/diffusion/Dockerfile"
  args       = { TORCH_INDEX = TORCH_CPU_INDEX }
  tags       = ["${REGISTRY}darkroom/diffusion:${VERSION}"]
}

target "pix2pix" {
  inherits   = ["common"]
  dockerfile = "docker/pix2pix/Dockerfile"
  tags       = ["${REGISTRY}darkroom/pix2pix:${VERSION}"]
}

# the official TensorFlow Serving with what `darkroom pix2pix export` wrote below docker/tf-serving/models
target "tf-serving" {
  inherits   = ["common"]
  dockerfile = "docker/tf-serving/Dockerfile"
  args       = { BASE = TF_SERVING_BASE }
  tags       = ["${REGISTRY}darkroom/tf-serving:${VERSION}"]
}

# ── for NVIDIA's GPUs: PyTorch's usual build and onnxruntime-gpu bring CUDA's libraries themselves ─────────────────────

target "onnx-cuda" {
  args = { ONNXRUNTIME = "onnxruntime-gpu[cuda,cudnn]" }
}

target "rmbg-cuda" {
  inherits = ["rmbg", "onnx-cuda"]
  tags     = ["${REGISTRY}darkroom/rmbg:${VERSION}-cuda"]
}

target "cleanup-cuda" {
  inherits = ["cleanup", "onnx-cuda"]
  tags     = ["${REGISTRY}darkroom/cleanup:${VERSION}-cuda"]
}

target "portrait-cuda" {
  inherits = ["portrait", "onnx-cuda"]
  tags     = ["${REGISTRY}darkroom/portrait:${VERSION}-cuda"]
}

target "caption-cuda" {
  inherits = ["caption"]
  args     = { TORCH_INDEX = "" }
  tags     = ["${REGISTRY}darkroom/caption:${VERSION}-cuda"]
}

target "diffusion-cuda" {
  inherits = ["diffusion"]
  args     = { TORCH_INDEX = "" }
  tags     = ["${REGISTRY}darkroom/diffusion:${VERSION}-cuda"]
}

# ── what is published: it needs a builder that can make attestations, `docker buildx create --use` makes one ───────────

target "published" {
  attest = ["type=sbom", "type=provenance,mode=max"]
  output = ["type=registry"]
}

target "released" {
  name      = "${image}-release"
  matrix    = { image = ["gateway", "rmbg", "cleanup", "portrait", "caption", "diffusion", "pix2pix"] }
  inherits  = [image, "published"]
  platforms = ["linux/amd64", "linux/arm64"]
}

target "released-cuda" {
  name      = "${image}-release"
  matrix    = { image = ["rmbg-cuda", "cleanup-cuda", "portrait-cuda", "caption-cuda", "diffusion-cuda"] }
  inherits  = [image, "published"]
  platforms = ["linux/amd64"]
}
