"""Quantizers: functions and objects that turn floats into small integers and 8-bit floats, and what undoes it."""

from kerax.quantizers.configs import QUANTIZERS as QUANTIZERS
from kerax.quantizers.configs import AbsMaxQuantizer as AbsMaxQuantizer
from kerax.quantizers.configs import AWQConfig as AWQConfig
from kerax.quantizers.configs import Float8QuantizationConfig as Float8QuantizationConfig
from kerax.quantizers.configs import GPTQConfig as GPTQConfig
from kerax.quantizers.configs import Int4QuantizationConfig as Int4QuantizationConfig
from kerax.quantizers.configs import Int8QuantizationConfig as Int8QuantizationConfig
from kerax.quantizers.configs import NF4QuantizationConfig as NF4QuantizationConfig
from kerax.quantizers.configs import QuantizationConfig as QuantizationConfig
from kerax.quantizers.configs import Quantizer as Quantizer
from kerax.quantizers.configs import deserialize as deserialize
from kerax.quantizers.configs import get as get
from kerax.quantizers.configs import serialize as serialize
from kerax.quantizers.functions import abs_max_quantize as abs_max_quantize
from kerax.quantizers.functions import (
    abs_max_quantize_grouped_with_zero_point as abs_max_quantize_grouped_with_zero_point,
)
from kerax.quantizers.functions import compute_float8_amax_history as compute_float8_amax_history
from kerax.quantizers.functions import compute_float8_scale as compute_float8_scale
from kerax.quantizers.functions import fake_quant_with_min_max_vars as fake_quant_with_min_max_vars
from kerax.quantizers.functions import pack_int4 as pack_int4
from kerax.quantizers.functions import quantize_and_dequantize as quantize_and_dequantize
from kerax.quantizers.functions import unpack_int4 as unpack_int4
