# The command `unlearning` in a container:
#   docker build --tag unlearning .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" unlearning run
# With a GPU add --gpus all; torch then brings its own CUDA libraries.
FROM python:3.12-slim
ENV HOME=/tmp PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /src/
RUN sed '/# alone$/d' /src/requirements.lock > /src/with-what-they-require.txt \
    && pip install --requirement /src/with-what-they-require.txt \
    && pip install --no-deps --requirement /src/requirements.lock
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE config.yaml environment.yml /src/
COPY pipeline_lib /src/pipeline_lib
COPY workflow /src/workflow
COPY config /src/config
RUN pip install --no-deps /src && rm -r /src
USER nobody
WORKDIR /work
ENTRYPOINT ["unlearning"]
