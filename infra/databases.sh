#!/bin/sh
# Makes a role and a database for each of MLflow (its accounts too), Prefect, Optuna and the journal where they are
# missing, and gives each role its password of infra/.env; nobody but the role of its name enters a database.
set -eu
secrets=${OSTEO_SECRETS_DIR:-/run/secrets}
PGPASSWORD=$(cat "$secrets/postgres_password")
export PGPASSWORD PGCONNECT_TIMEOUT=5

ask() {
    psql --no-psqlrc --quiet --tuples-only --no-align --command "$1"
}

deadline=$(($(date +%s) + ${OSTEO_WAIT_SECONDS:-60}))
until told=$(ask "select 1" 2>&1); do
    if [ "$(date +%s)" -ge "$deadline" ]; then
        echo "error: PostgreSQL: $told" >&2
        exit 1
    fi
    sleep 1
done
for name in mlflow prefect optuna journal; do
    password=$(cat "$secrets/${name}_database_password")
    : "${password:?secret ${name}_database_password is empty}"
    [ -n "$(ask "select 1 from pg_roles where rolname = '$name'")" ] || ask "create role $name login"
    # psql sends a verifier alone: the password is in no command line and in no log of the server. Without a terminal
    # (setsid) it reads the two lines that it would ask for.
    told=$(printf '%s\n%s\n' "$password" "$password" |
        setsid --wait psql --no-psqlrc --command "\\password $name" 2>&1) || {
        echo "error: the password of role $name: $told" >&2
        exit 1
    }
    if [ -z "$(ask "select 1 from pg_database where datname = '$name'")" ]; then
        ask "create database $name owner $name"
        echo "made the database $name"
    fi
    ask "revoke all on database $name from public"
done
