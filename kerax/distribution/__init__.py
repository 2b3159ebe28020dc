"""Many devices: meshes, layouts, and the distributions that spread weights and batches over them."""

from kerax.core.placement import constrain as constrain
from kerax.distribution import layouts as layouts
from kerax.distribution.mesh import DeviceMesh as DeviceMesh
from kerax.distribution.mesh import LayoutMap as LayoutMap
from kerax.distribution.mesh import TensorLayout as TensorLayout
from kerax.distribution.mesh import distribute_tensor as distribute_tensor
from kerax.distribution.mesh import get_device_count as get_device_count
from kerax.distribution.mesh import list_devices as list_devices
from kerax.distribution.processes import initialize as initialize
from kerax.distribution.processes import process_batch as process_batch
from kerax.distribution.processes import process_batch_size as process_batch_size
from kerax.distribution.strategies import FSDP as FSDP
from kerax.distribution.strategies import DataParallel as DataParallel
from kerax.distribution.strategies import Distribution as Distribution
from kerax.distribution.strategies import ModelParallel as ModelParallel
from kerax.distribution.strategies import distribution as distribution
from kerax.distribution.strategies import set_distribution as set_distribution
