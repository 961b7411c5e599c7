#!/bin/sh
# Starts one server of compose.yaml. Secrets are read from files and handed on in the environment or in files of mode
# 0600, never in a command line; an empty one stops the start.
set -eu
umask 077
# Nothing is told to, or fetched from, anybody outside.
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_MODEL_CATALOG_URI= DO_NOT_TRACK=1
export PREFECT_SERVER_ANALYTICS_ENABLED=false RAY_USAGE_STATS_ENABLED=0 DVC_NO_ANALYTICS=1
secrets=${OSTEO_SECRETS_DIR:-/run/secrets}
keys=${OSTEO_KEYS_DIR:-/keys}
name=${1:?allowed: s3, bucket, mlflow, prefect, flow-worker, ray-head, ray-worker, optuna-dashboard}

refuse() {
    echo "error: secret $1: $2; set it in infra/.env (see infra/README.md)" >&2
    exit 2
}

# secret NAME: its value. It stands in addresses and settings files, so that nothing else than plain signs is allowed.
secret() {
    [ -s "$secrets/$1" ] || refuse "$1" "empty or missing"
    value=$(cat "$secrets/$1")
    case $value in
        '' | *[!A-Za-z0-9_:-]*) refuse "$1" "allowed: letters, digits, and - _ (openssl rand -hex 24)" ;;
    esac
    printf %s "$value"
}

# passwords ROLE...: PostgreSQL's own file of passwords, so that no address of a database holds one.
passwords() {
    for role; do
        password=$(secret "${role}_database_password")
        printf '*:*:*:%s:%s\n' "$role" "$(printf %s "$password" | sed 's/:/\\:/g')"
    done > "$keys/pgpass"
    export PGPASSFILE="$keys/pgpass"
}

s3_keys() {
    AWS_ACCESS_KEY_ID=$(secret s3_access_key)
    AWS_SECRET_ACCESS_KEY=$(secret s3_secret_key)
    AWS_DEFAULT_REGION=us-east-1
    MLFLOW_S3_ENDPOINT_URL=http://s3:8333
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION MLFLOW_S3_ENDPOINT_URL
}

# What a program of the project needs to reach the servers as a client.
client_keys() {
    MLFLOW_TRACKING_PASSWORD=$(secret mlflow_password)
    PREFECT_API_AUTH_STRING=$(secret prefect_auth)
    passwords journal optuna
    secret ray_token > /dev/null
    export MLFLOW_TRACKING_PASSWORD PREFECT_API_AUTH_STRING
}

# A driver must stand on a node of Ray: this container becomes one, which computes nothing and whose workers get none of
# the keys. Without a cluster, as where the profile `ray` is left out, Ray starts in the container with each job.
join_ray() {
    [ -n "${RAY_ADDRESS:-}" ] || return 0
    if told=$(ray health-check --address "$RAY_ADDRESS" 2>&1); then
        (
            unset MLFLOW_TRACKING_PASSWORD PREFECT_API_AUTH_STRING PGPASSFILE
            ray start --address="$RAY_ADDRESS" --num-cpus=0 --num-gpus=0 --disable-usage-stats
        )
    else
        echo "no Ray cluster at $RAY_ADDRESS ($(printf %s "$told" | tail -n 1)): jobs run in this container" >&2
        unset RAY_ADDRESS
    fi
}

case $name in
    s3)
        access=$(secret s3_access_key)
        hidden=$(secret s3_secret_key)
        # The calls of gRPC, S3's own port for them too, are open to all unless they must be signed.
        WEED_JWT_SIGNING_KEY=$(secret s3_inner_key)
        export WEED_JWT_SIGNING_KEY WEED_JWT_FILER_SIGNING_KEY="$WEED_JWT_SIGNING_KEY" \
            WEED_JWT_FILER_SIGNING_READ_KEY="$WEED_JWT_SIGNING_KEY"
        printf '{"identities": [{"name": "osteo", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}' "$access" "$hidden" > "$keys/s3.json"
        # Master, volume and filer listen inside the container alone.
        exec weed -logtostderr=true server -s3 -filer -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 \
            -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.config="$keys/s3.json" -s3.allowedOrigins=http://127.0.0.1:8333 \
            -s3.iam=false -s3.autoCreateBucket=false -s3.port.iceberg=0 -s3.port.lance=0 -filer.disableHttp=true \
            -master.telemetry=false -master.volumeSizeLimitMB=1024 -volume.max=0 -volume.preStopSeconds=0
        ;;
    bucket)
        s3_keys
        exec python /opt/osteo/infra/bucket.py osteo
        ;;
    mlflow)
        s3_keys
        passwords mlflow
        MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://mlflow@postgres:5432/mlflow
        MLFLOW_AUTH_ADMIN_PASSWORD=$(secret mlflow_password)
        MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret mlflow_session_key)
        # Other accounts may look, and nothing else, until the administrator says otherwise.
        printf '[mlflow]\ndefault_permission = READ\ndatabase_uri = %s\nauth_cache_ttl_seconds = 60\n' \
            "$MLFLOW_BACKEND_STORE_URI" > "$keys/basic_auth.ini"
        export MLFLOW_BACKEND_STORE_URI MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
        export MLFLOW_AUTH_ADMIN_USERNAME=admin MLFLOW_AUTH_CONFIG_PATH="$keys/basic_auth.ini"
        export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
        export OSTEO_ALLOWED_HOSTS=mlflow,127.0.0.1,localhost
        # One worker: each of them would set up the accounts.
        exec mlflow server --app-name osteo --host 0.0.0.0 --port 5000 --workers 1 --uvicorn-opts "--no-proxy-headers" \
            --artifacts-destination s3://osteo/mlflow --allowed-hosts mlflow:5000,127.0.0.1:5000,localhost:5000
        ;;
    prefect)
        PREFECT_SERVER_API_AUTH_STRING=$(secret prefect_auth)
        passwords prefect
        export PREFECT_SERVER_API_AUTH_STRING
        export PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://prefect@postgres:5432/prefect
        export OSTEO_ALLOWED_HOSTS=prefect,127.0.0.1,localhost PREFECT_UI_API_URL=/api
        export PREFECT_UI_STATIC_DIRECTORY=/tmp/prefect-ui   # the package's own folder is root's
        exec python -m uvicorn --factory pipelines.server:create_app --host 0.0.0.0 --port 4200 --no-proxy-headers
        ;;
    flow-worker)
        client_keys
        join_ray
        prefect work-pool create osteo --type process --overwrite
        prefect --no-prompt deploy --prefect-file infra/prefect.yaml --all
        exec prefect worker start --pool osteo --limit 2
        ;;
    ray-head)
        secret ray_token > /dev/null
        # Nothing scales here, and the monitor that would tells its figures to whoever asks.
        exec ray start --head --port=6379 --dashboard-host=0.0.0.0 --no-monitor --disable-usage-stats --block
        ;;
    ray-worker)
        secret ray_token > /dev/null
        exec ray start --address="${2:?the address of the head}" --disable-usage-stats --block
        ;;
    optuna-dashboard)
        passwords optuna
        exec optuna-dashboard --host 0.0.0.0 --port 8080 postgresql+psycopg://optuna@postgres:5432/optuna
        ;;
    *)
        echo "error: no server $name" >&2
        exit 2
        ;;
esac
