"""Many devices: meshes, layouts, and the distributions that spread weights and batches over them."""

from kerax.core.placement import constrain
from kerax.distribution import layouts
from kerax.distribution.mesh import (
    DeviceMesh,
    LayoutMap,
    TensorLayout,
    distribute_tensor,
    get_device_count,
    list_devices,
)
from kerax.distribution.processes import initialize, process_batch, process_batch_size
from kerax.distribution.strategies import (
    FSDP,
    DataParallel,
    Distribution,
    ModelParallel,
    distribution,
    set_distribution,
)

__all__ = [
    "FSDP",
    "DataParallel",
    "DeviceMesh",
    "Distribution",
    "LayoutMap",
    "ModelParallel",
    "TensorLayout",
    "constrain",
    "distribute_tensor",
    "distribution",
    "get_device_count",
    "initialize",
    "layouts",
    "list_devices",
    "process_batch",
    "process_batch_size",
    "set_distribution",
]
