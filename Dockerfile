# The dashboard as a public server of the shipped models; fits a Hugging Face Space (sdk: docker, app_port: 7860) as it is.
#   docker build -t qfund . && docker run --rm -p 7860:7860 qfund
# The usual torch for Linux brings gigabytes of CUDA. For a small image name the index of PyTorch's CPU builds:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=… -t qfund .
# Results outlive the container with: docker run -v qfund:/home/qfund/data …

FROM python:3.11-slim AS build
# Pip reads both from the environment.
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
# For several servers and a cluster (deploy/README.md): --build-arg EXTRAS=postgres,ray
ARG EXTRAS
RUN python -m venv /venv
WORKDIR /app
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir -r requirements.txt
COPY . .
# Bytecode now: the server may not write here, and each worker would compile again. It may read all, whatever the modes
# of the files that were sent.
RUN /venv/bin/pip install --no-cache-dir --editable ".${EXTRAS:+[$EXTRAS]}" \
    && /venv/bin/python -m compileall -q qfund pages \
    && chmod -R a+rX .

FROM python:3.11-slim
RUN useradd --uid 1000 --create-home qfund && install --directory --owner 1000 --group 1000 /home/qfund/data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 1000
# QFUND_HOSTS: -e QFUND_HOSTS=qfund.example.org where it is reached by a name (a Space says its own).
# QFUND_ALLOW: visitors choose among the shipped models only; "hub" or "folder,hub" opens more.
# STREAMLIT_…: for its welcome, Streamlit asks a foreign host for this server's address.
ENV PATH=/venv/bin:$PATH \
    HOME=/home/qfund \
    PORT=7860 \
    PYTHONUNBUFFERED=1 \
    QFUND_ALLOW="" \
    QFUND_HOME=/home/qfund/data \
    QFUND_PUBLIC=1 \
    STREAMLIT_LOGGER_HIDE_WELCOME_MESSAGE=true
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os; from urllib.request import urlopen; urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/_stcore/health', timeout=4)"]
CMD ["sh", "-c", "exec streamlit run app.py --server.address 0.0.0.0 --server.port \"$PORT\""]
