"""The settings with which obstore reaches a bucket or container.

Strategy: obstore itself reads the environment, the files of `gcloud` and the metadata servers. This module adds the
variables that the libraries and commands of the clouds know, but obstore does not.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore import exceptions
from obstore.store import from_url

from blobpack.errors import StorageError
from blobpack.stores.clouds.schemes import OBSTORE_SCHEMES

if TYPE_CHECKING:
    from obstore.store import RetryConfig

# limits for sending a request again after a fault that may pass
RETRIES: RetryConfig = {"max_retries": 10, "retry_timeout": timedelta(minutes=1)}
# for conditional writes, which send_on_condition repeats
ONCE: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(minutes=1)}
# the variable of Google's own libraries, and those of the Azure CLI, which obstore does not know
GCS_EMULATOR = "STORAGE_EMULATOR_HOST"
AZURE_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
AZURE_CLI = {
    "AZURE_STORAGE_ACCOUNT": "account_name",
    "AZURE_STORAGE_KEY": "account_key",
    "AZURE_STORAGE_SAS_TOKEN": "sas_key",
}
# parts of a connection string (Azure Storage, "Configure Azure Storage connection strings")
CONNECTION_PARTS = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}


def new_store(root: str, *, anonymous: bool, retries: RetryConfig = RETRIES) -> Any:
    """Make obstore's store of a bucket or container; no request is sent.

    Args:
        root: URL of the bucket or container.
        anonymous: Send no credentials.
        retries: Limits for sending a request again.

    Raises:
        StorageError: the configuration is wrong.
    """
    of = {"gcs": _gcs_settings, "azure": _azure_settings}[OBSTORE_SCHEMES[root.partition(":")[0]]]
    settings = of()
    if anonymous:
        settings["skip_signature"] = True
    endpoint = settings.get("endpoint") or os.environ.get("AZURE_STORAGE_ENDPOINT", "")
    is_plain = endpoint.startswith("http://") or "service_account_key" in settings
    try:
        return from_url(
            root,
            client_options={"allow_http": True} if is_plain else {},
            retry_config=retries,
            **settings,
        )
    except (exceptions.BaseError, ValueError) as exc:
        raise StorageError(f"{root}: {exc}".partition("\n")[0]) from exc


def _gcs_settings() -> dict[str, Any]:
    host = os.environ.get(GCS_EMULATOR, "")
    if not host:
        return {}
    # obstore has no other way to leave out the credentials of writes
    key = {
        "gcs_base_url": host if "://" in host else f"http://{host}",
        "disable_oauth": True,
        **dict.fromkeys(("client_email", "private_key", "private_key_id"), ""),
    }
    return {"service_account_key": json.dumps(key)}


def _azure_settings() -> dict[str, Any]:
    settings = {name: os.environ[env] for env, name in AZURE_CLI.items() if os.environ.get(env)}
    for part in os.environ.get(AZURE_CONNECTION, "").split(";"):
        name, _, value = part.partition("=")
        if name in CONNECTION_PARTS and value:
            settings[CONNECTION_PARTS[name]] = value
    return settings
