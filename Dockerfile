# JupyterLab with the notebooks: docker build -t minidream . && docker run -p 8888:8888 minidream
FROM python:3.11-slim
# Where pip looks first, such as an index with torch's CPU build, which is gigabytes smaller.
ARG PIP_INDEX_URL
RUN useradd --create-home reader
COPY . /tmp/minidream
RUN cd /tmp/minidream && pip install --no-cache-dir "$(sed -n '/^torch==/p' constraints.txt)" \
    && pip install --no-cache-dir -c constraints.txt . && rm -r /tmp/minidream
USER reader
WORKDIR /home/reader
RUN minidream notebooks notebooks --no-lab
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks/00_quickstart.ipynb"]
