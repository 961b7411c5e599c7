"""Makes the bucket of the artifacts where it is missing: `python bucket.py NAME`; keys come from AWS's variables."""

from __future__ import annotations

import os
import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

WAIT_SECONDS = 60.0


def make_bucket(name: str, endpoint: str, wait_seconds: float = WAIT_SECONDS) -> bool:
    """Make a bucket; False where it was there.

    A store that has just started may take no calls for a while: its parts find each other in their own time.

    Raises:
        BotoCoreError, ClientError: It took none in time.
    """
    store = boto3.client("s3", endpoint_url=endpoint)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            if name in [bucket["Name"] for bucket in store.list_buckets()["Buckets"]]:
                return False
            store.create_bucket(Bucket=name)
            return True
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    make_bucket(sys.argv[1], os.environ["MLFLOW_S3_ENDPOINT_URL"])
