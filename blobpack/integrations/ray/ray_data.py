"""The parts of Ray Data that reading and writing use. Imports Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blobpack.errors import PackageMissingError

try:
    import ray as ray
    from ray.data import Dataset as Dataset
    from ray.data.block import (
        Block as Block,
        BlockAccessor as BlockAccessor,
        BlockMetadata as BlockMetadata,
    )
    from ray.data.datasource import (
        Datasink as Datasink,
        Datasource as Datasource,
        ReadTask as ReadTask,
    )
    from ray.data.extensions import (
        ArrowTensorArray as ArrowTensorArray,
        ArrowVariableShapedTensorArray as ArrowVariableShapedTensorArray,
    )
except ImportError as exc:
    raise PackageMissingError(
        "blobpack.integrations.ray needs Ray Data: pip install 'ray[data]'"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray


def processors() -> int:
    """Return the number of processors of the cluster; starts Ray if it does not run yet."""
    if not ray.is_initialized():
        ray.init()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def to_images(images: list[NDArray[Any]], size: tuple[int, int] | None) -> Any:
    """Return an Arrow array of images: a tensor of one shape if they were resized, and else one of any shapes."""
    # always of any shapes if no size was given: blocks of a dataset must not differ in their type
    if size is None:
        return ArrowVariableShapedTensorArray.from_numpy(images)
    return ArrowTensorArray.from_numpy(images)
