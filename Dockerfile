FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc pkg-config libmariadb-dev
COPY requirements/mysql.txt requirements/whatsapp.txt /tmp/
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/mysql.txt \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/whatsapp.txt

FROM python:3.11-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libmariadb3 libmagic1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home siaran
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /srv/siaran
COPY . .
# The key only lets settings load; nothing of it stays.
RUN SECRET_KEY=build python manage.py collectstatic --noinput \
    && mkdir -m 700 -p var/sessions && chown -R siaran var
USER siaran
EXPOSE 8000
CMD ["gunicorn", "config.wsgi", "--bind", "0.0.0.0:8000", "--threads", "4"]
