#!/bin/sh
# Makes the databases of MLflow, its users, Prefect and Optuna, where they are missing.
set -eu
PGPASSWORD=$(cat "${OSTEO_SECRETS_DIR:-/run/secrets}/postgres_password")
export PGPASSWORD
for name in mlflow mlflow_auth prefect optuna; do
    if [ -z "$(psql --no-psqlrc --tuples-only --no-align --command "select 1 from pg_database where datname = '$name'")" ]
    then
        psql --no-psqlrc --quiet --command "create database $name"
        echo "made the database $name"
    fi
done
