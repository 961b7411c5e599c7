"""Makes the bucket of the artifacts where it is missing: `python bucket.py NAME`; keys come from AWS's variables."""

from __future__ import annotations

import os
import sys

import boto3
from botocore.exceptions import ClientError


def make_bucket(name: str, endpoint: str) -> bool:
    """Make a bucket; False where it was there."""
    store = boto3.client("s3", endpoint_url=endpoint)
    try:
        store.head_bucket(Bucket=name)
        return False
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
    store.create_bucket(Bucket=name)
    return True


if __name__ == "__main__":
    make_bucket(sys.argv[1], os.environ["MLFLOW_S3_ENDPOINT_URL"])
