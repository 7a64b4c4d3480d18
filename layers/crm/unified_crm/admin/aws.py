"""AWS as the operator's machine reaches it, and what to say where it does not."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from unified_crm.admin.console import Failure

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

_CONFIG = Config(connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3})


def client(service: str) -> Any:
    """A client of boto3's, to be closed."""
    try:
        return boto3.client(service, config=_CONFIG)
    except ValueError:  # as botocore calls an address that is none
        raise Failure("The address in AWS_ENDPOINT_URL is none.") from None


def table(name: str) -> Any:
    """A table of DynamoDB's, whose `meta.client` is to be closed."""
    try:
        return boto3.resource("dynamodb", config=_CONFIG).Table(name)
    except ValueError:
        raise Failure("The address in AWS_ENDPOINT_URL is none.") from None


def refusal(error: exceptions.ClientError) -> str:
    """What AWS refused. Its own message stays out: it can repeat what was sent."""
    code, call = error.response["Error"]["Code"], error.operation_name
    if code in _DENIED:
        return f"AWS does not permit {call} with these AWS credentials."
    if code in _BAD_CREDENTIALS:
        return f"AWS refuses these AWS credentials: wrong, or expired ({code})."
    return f"AWS answered {code} to {call}."


def fault(error: exceptions.BotoCoreError) -> str:
    """Why AWS was not asked, or did not answer."""
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return "There are no AWS credentials here: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    if isinstance(error, exceptions.NoRegionError):
        return "No AWS region is set: set AWS_REGION."
    if isinstance(error, exceptions.ProfileNotFound):
        return "There is no AWS profile of the name in AWS_PROFILE."
    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError):
        where = " at AWS_ENDPOINT_URL" if os.environ.get("AWS_ENDPOINT_URL") else ""
        return f"AWS could not be reached{where} ({type(error).__name__})."
    return f"AWS could not be called ({type(error).__name__})."


def output(stack: str, key: str) -> str:
    """An output of a CloudFormation stack. Raises Failure where there is none."""
    with closing(client("cloudformation")) as asked:
        try:
            stacks = asked.describe_stacks(StackName=stack)["Stacks"]
        except exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise Failure(
                f"TOKENS_TABLE is not set, and there is no stack {stack} to ask; name it with --stack, "
                "or the table with --table."
            ) from None
    found = {each["OutputKey"]: each["OutputValue"] for each in stacks[0].get("Outputs", [])}
    if key not in found:
        raise Failure(f"The stack {stack} has no output {key}; name the table with --table.")
    value: str = found[key]
    return value
