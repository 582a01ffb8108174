# docker build -t sac-bench .
# docker run --rm -v "$PWD/results:/work/results" sac-bench run ablation-quick
# With an NVIDIA GPU (and its container toolkit): docker run --gpus all ... sac-bench run ablation-humanoid --device cuda
# The same image serves both: torch's wheel for Linux brings its CUDA libraries.
FROM python:3.11-slim

# g++ compiles updates; EGL and OpenGL render videos without a display. Debian deletes old versions, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libegl1 libgl1 libgl1-mesa-dri \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/sac_bench
COPY requirements.lock .
RUN pip install --no-cache-dir --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY sac_bench sac_bench
COPY experiments experiments
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

WORKDIR /work
ENTRYPOINT ["sac-bench"]
CMD ["--help"]
