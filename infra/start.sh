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

# database NAME DRIVER
database() {
    password=$(secret postgres_password)
    printf %s "$2://osteo:$password@postgres:5432/$1"
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
    PGPASSWORD=$(secret postgres_password)   # so that no address of a database, in params.yaml or elsewhere, needs it
    secret ray_token > /dev/null
    export MLFLOW_TRACKING_PASSWORD PREFECT_API_AUTH_STRING PGPASSWORD
}

case $name in
    s3)
        access=$(secret s3_access_key)
        hidden=$(secret s3_secret_key)
        printf '{"identities": [{"name": "osteo", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}' "$access" "$hidden" > "$keys/s3.json"
        # Master, volume and filer check nobody: they listen inside the container alone.
        exec weed server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 \
            -s3.config="$keys/s3.json"
        ;;
    bucket)
        s3_keys
        exec python /opt/osteo/infra/bucket.py osteo
        ;;
    mlflow)
        s3_keys
        MLFLOW_BACKEND_STORE_URI=$(database mlflow postgresql+psycopg)
        MLFLOW_AUTH_ADMIN_PASSWORD=$(secret mlflow_password)
        MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret mlflow_session_key)
        auth=$(database mlflow_auth postgresql+psycopg)
        printf '[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = admin\ndatabase_uri = %s\n' "$auth" \
            > "$keys/basic_auth.ini"
        export MLFLOW_BACKEND_STORE_URI MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
        export MLFLOW_AUTH_CONFIG_PATH="$keys/basic_auth.ini"
        export MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
        exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers 2 \
            --artifacts-destination s3://osteo/mlflow --allowed-hosts mlflow:5000,127.0.0.1:5000,localhost:5000
        ;;
    prefect)
        PREFECT_SERVER_API_AUTH_STRING=$(secret prefect_auth)
        PREFECT_SERVER_DATABASE_CONNECTION_URL=$(database prefect postgresql+asyncpg)
        export PREFECT_SERVER_API_AUTH_STRING PREFECT_SERVER_DATABASE_CONNECTION_URL
        export OSTEO_ALLOWED_HOSTS=prefect,127.0.0.1,localhost PREFECT_UI_API_URL=/api
        exec python -m uvicorn --factory pipelines.guard:create_app --host 0.0.0.0 --port 4200 --no-proxy-headers
        ;;
    flow-worker)
        client_keys
        prefect work-pool create osteo --type process --overwrite
        prefect --no-prompt deploy --prefect-file infra/prefect.yaml --all
        exec prefect worker start --pool osteo --limit 2
        ;;
    ray-head)
        secret ray_token > /dev/null
        exec ray start --head --port=6379 --dashboard-host=0.0.0.0 --disable-usage-stats --block
        ;;
    ray-worker)
        secret ray_token > /dev/null
        exec ray start --address="${2:?the address of the head}" --disable-usage-stats --block
        ;;
    optuna-dashboard)
        storage=$(database optuna postgresql+psycopg)
        printf '[optuna_dashboard]\nstorage = "%s"\nhost = "0.0.0.0"\nport = 8080\n' "$storage" > "$keys/dashboard.toml"
        exec optuna-dashboard --from-config "$keys/dashboard.toml"
        ;;
    *)
        echo "error: no server $name" >&2
        exit 2
        ;;
esac
