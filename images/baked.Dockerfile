# A model in an image of ours, and the KV of a fixed prefix computed ahead, so that no start fetches one or computes the
# other. FOLDER holds the model (a .gguf file or a model folder) and prompt.json: a chat request's messages and tools.
#
#     docker build -f images/baked.Dockerfile --build-arg IMAGE=pagemill:cpu --build-arg MODEL=model.gguf FOLDER
#
# The snapshot holds for the settings that shape the KV, so give those here, not when the image is run. The GPU image's
# would need a GPU while it is built.
ARG IMAGE=pagemill:cpu
FROM ${IMAGE}
ARG MODEL=model.gguf
USER root
COPY . /model/
ENV PAGEMILL_MODEL=/model/${MODEL}
RUN pagemill snapshot "$PAGEMILL_MODEL" --prompt /model/prompt.json && chmod -R a+rX /model
USER 10001:10001
