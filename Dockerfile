# CPU: docker build -t cxr .
# GPU: docker build -t cxr --build-arg DEVICE=gpu .    then: docker run --gpus all ...
# Run: docker run --rm -v "$PWD/reports:/cxr/reports" -v cxr-state:/cxr/.checkpoints -v cxr-cache:/cxr/.dvc/cache cxr
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /cxr
ARG DEVICE=cpu
# What the environment is made of, so that an edit elsewhere does not make it anew.
COPY Makefile pyproject.toml requirements.txt README.md LICENSE ./
COPY cxr/__init__.py cxr/
# The build of torch for a GPU brings its own CUDA libraries: the host needs only the driver.
RUN if [ "$DEVICE" = cpu ]; then export UV_TORCH_BACKEND=cpu; fi; UV_NO_CACHE=1 make env
COPY . .
CMD ["make", "repro"]
