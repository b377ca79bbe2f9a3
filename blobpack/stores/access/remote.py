"""The options that all public functions with URLs share, and the value that travels with a Location."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, TypeVar

from blobpack.model import shown
from blobpack.stores.access.s3_options import S3Options, server_of
from blobpack.stores.access.signature import with_options

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")


class RemoteOptions(TypedDict, total=False):
    """Options that all functions with URLs share: how remote blobs are reached.

    Attributes:
        s3: Account, server and properties of uploads, for s3:// URLs; see S3Options. None: the account of the environment
            and of the AWS configuration files.
    """

    s3: S3Options | None


REMOTE_DEFAULTS = RemoteOptions(s3=None)


# Compared by server alone: locations of one object must be equal, whatever the properties of uploads are, or a blob would
# be packed into itself.
@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """How remote blobs are reached: the options of a caller, after their check.

    Attributes:
        s3: Account, server and properties of uploads, for s3:// URLs.
    """

    s3: S3Options = S3Options()  # noqa: RUF009 (frozen)

    @classmethod
    def of(cls, function: str, options: RemoteOptions) -> Access:
        """Check the options that a caller gave.

        Args:
            function: Name of the public function that was called, for messages.
            options: The options.

        Raises:
            TypeError: an option does not exist, or its value has a wrong type.
        """
        unknown = next((name for name in options if name not in REMOTE_DEFAULTS), None)
        # Python itself accepts any keyword for **options, so a misspelt option would be ignored
        if unknown is not None:
            raise TypeError(
                f"{function}() got an unexpected keyword argument {unknown!r}; **remote accepts only "
                f"{', '.join(REMOTE_DEFAULTS)}"
            )
        s3 = options.get("s3")
        if s3 is None:
            return NO_ACCESS
        if not isinstance(s3, S3Options):
            raise TypeError(f"s3 must be S3Options, not {shown(s3)}")
        return cls(s3)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Access) and server_of(self.s3) == server_of(other.s3)

    def __hash__(self) -> int:
        return hash(server_of(self.s3))


# nothing given: the environment and the configuration files decide
NO_ACCESS = Access()


def with_remote_options(function: F) -> F:
    """Add the options of RemoteOptions to the signature and the help of a function that takes them as **remote."""
    return with_options(REMOTE_DEFAULTS, RemoteOptions)(function)
