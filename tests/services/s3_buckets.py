"""What the S3 servers have in common: how clients reach them, and how a bucket is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.service import Service

if TYPE_CHECKING:
    from pathlib import Path

ACCESS_KEY = "testing"
SECRET_KEY = "testing"
REGION = "us-east-1"


def s3_service(name: str, port: int, log: Path) -> Service:
    """The Service of an S3 server on this machine that knows the key pair testing/testing."""
    import boto3  # half a second, which only the tests that use it should pay
    from botocore.config import Config

    endpoint = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )

    def make_bucket(bucket: str) -> None:
        client.create_bucket(Bucket=bucket)

    return Service(
        name=name,
        backend="s3",
        endpoint=endpoint,
        options={
            "endpoint": endpoint,
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
            "region": REGION,
        },
        env={
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
        },
        make_bucket=make_bucket,
        log=log,
    )
