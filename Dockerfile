# The service in a container, on the CPU (the default) or on NVIDIA GPUs:
#
#   docker build --target cpu -t liveportrait:cpu .
#   docker build --target cuda -t liveportrait:cuda .
#   docker run --rm -p 127.0.0.1:8000:8000 -v liveportrait:/data liveportrait:cpu
#
# See docs/guide/service.md.

FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    LIVEPORTRAIT_CREDENTIALS=/data/credentials
RUN useradd --create-home --uid 10001 liveportrait \
    && install --directory --owner liveportrait --mode 700 /data
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src ./src
VOLUME /data
EXPOSE 8000
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
# Inside a container, listen on all addresses: the published ports decide who can reach them.
CMD ["liveportrait", "serve", "--host", "0.0.0.0", "--port", "8000", "--data", "/data"]

# PyPI's PyTorch includes CUDA; the host provides the driver and its container toolkit.
FROM base AS cuda
RUN pip install --constraint constraints.txt '.[serve,heif]'
USER liveportrait

# PyTorch's CPU build is a tenth as large. PyTorch's installation page gives its ADDRESS:
#
#   docker build --target cpu --build-arg PIP_EXTRA_INDEX_URL=ADDRESS --build-arg TORCH=torch==2.13.0+cpu .
FROM base AS cpu
ARG PIP_EXTRA_INDEX_URL
ARG TORCH=torch==2.13.0
RUN pip install --constraint constraints.txt "$TORCH" \
    && pip install --constraint constraints.txt '.[serve,heif,cpu]'
USER liveportrait
