# JupyterLab with everything, for a machine with Docker and no Python.
# Built from the project's root:  docker build -f labs/stack/workbook.Dockerfile .
FROM python:3.13-slim

# A package index of your own, where the public one is out of reach.
ARG PIP_INDEX_URL

# An environment of its own: what the base image has brought along for itself is neither replaced nor relied on.
RUN python -m venv /opt/labs
ENV PATH=/opt/labs/bin:$PATH

WORKDIR /workbook
COPY requirements.txt .
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --cache-dir /var/cache/pip --root-user-action=ignore -r requirements.txt

RUN useradd --create-home reader && chown reader: /workbook
COPY --chown=reader . .
USER reader

# LABS_NO_VENV: `labs start` uses this environment and makes none. All addresses means the container's own network;
# Compose publishes the port on 127.0.0.1.
ENV LABS_NO_VENV=1 LABS_BIND=0.0.0.0 LABS_PORT=8888
EXPOSE 8888
HEALTHCHECK --interval=2s --timeout=3s --retries=60 --start-period=60s CMD ["python", "-c", \
    "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"LABS_PORT\"]}/api', timeout=2)"]
CMD ["sh", "-c", "exec python -m labs start --no-browser --port \"$LABS_PORT\""]
