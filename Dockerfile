# The studio of danqing: docker build --tag danqing .   then see compose.yaml
#
# PIP_EXTRA_INDEX_URL may name an index of PyTorch's builds, such as those for the CPU alone, which are much smaller.
# Without it pip takes the usual build, which also runs on NVIDIA's GPUs.

FROM python:3.12-slim AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/danqing
ENV PATH=/opt/danqing/bin:$PATH
WORKDIR /source
COPY constraints.txt ./
RUN pip install --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN pip install --constraint constraints.txt '.[studio,photos]'

FROM python:3.12-slim
COPY --from=build /opt/danqing /opt/danqing
RUN useradd --create-home --uid 1000 danqing \
 && install --directory --owner=danqing --group=danqing /data
ENV PATH=/opt/danqing/bin:$PATH \
    DANQING_STUDIO=/data \
    HF_HUB_OFFLINE=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["danqing"]
# Others can reach a container, so this needs accounts or DANQING_TOKEN; it says how to make one.
CMD ["studio", "--no-browser", "--host", "0.0.0.0"]
