"""Layers: one family per file, under Keras's names."""

from typing import Any

from kerax.core.input_spec import InputSpec as InputSpec
from kerax.core.layer import LAYERS as _LAYERS
from kerax.core.layer import Layer as Layer
from kerax.core.registry import deserialize_keras_object as _deserialize
from kerax.core.registry import serialize_keras_object as _serialize
from kerax.layers.activation import ELU as ELU
from kerax.layers.activation import Activation as Activation
from kerax.layers.activation import LeakyReLU as LeakyReLU
from kerax.layers.activation import PReLU as PReLU
from kerax.layers.activation import ReLU as ReLU
from kerax.layers.activation import Softmax as Softmax
from kerax.layers.attention import MultiHeadAttention as MultiHeadAttention
from kerax.layers.audio import MelSpectrogram as MelSpectrogram
from kerax.layers.audio import STFTSpectrogram as STFTSpectrogram
from kerax.layers.augmentation import RandomElasticTransform as RandomElasticTransform
from kerax.layers.augmentation import RandomFlip as RandomFlip
from kerax.layers.augmentation import RandomPerspective as RandomPerspective
from kerax.layers.augmentation import RandomRotation as RandomRotation
from kerax.layers.augmentation import RandomShear as RandomShear
from kerax.layers.augmentation import RandomTranslation as RandomTranslation
from kerax.layers.augmentation import RandomZoom as RandomZoom
from kerax.layers.category import CategoryEncoding as CategoryEncoding
from kerax.layers.category import Discretization as Discretization
from kerax.layers.cells import GRUCell as GRUCell
from kerax.layers.cells import LSTMCell as LSTMCell
from kerax.layers.cells import SimpleRNNCell as SimpleRNNCell
from kerax.layers.cells import StackedRNNCells as StackedRNNCells
from kerax.layers.color import RandomBrightness as RandomBrightness
from kerax.layers.color import RandomColorDegeneration as RandomColorDegeneration
from kerax.layers.color import RandomColorJitter as RandomColorJitter
from kerax.layers.color import RandomContrast as RandomContrast
from kerax.layers.color import RandomErasing as RandomErasing
from kerax.layers.color import RandomGaussianBlur as RandomGaussianBlur
from kerax.layers.color import RandomGrayscale as RandomGrayscale
from kerax.layers.color import RandomHue as RandomHue
from kerax.layers.color import RandomInvert as RandomInvert
from kerax.layers.color import RandomPosterization as RandomPosterization
from kerax.layers.color import RandomSaturation as RandomSaturation
from kerax.layers.color import RandomSharpness as RandomSharpness
from kerax.layers.color import Solarization as Solarization
from kerax.layers.conv import Conv1D as Conv1D
from kerax.layers.conv import Conv2D as Conv2D
from kerax.layers.conv import Conv3D as Conv3D
from kerax.layers.conv_recurrent import ConvLSTM1D as ConvLSTM1D
from kerax.layers.conv_recurrent import ConvLSTM2D as ConvLSTM2D
from kerax.layers.conv_recurrent import ConvLSTM3D as ConvLSTM3D
from kerax.layers.conv_separable import DepthwiseConv1D as DepthwiseConv1D
from kerax.layers.conv_separable import DepthwiseConv2D as DepthwiseConv2D
from kerax.layers.conv_separable import SeparableConv1D as SeparableConv1D
from kerax.layers.conv_separable import SeparableConv2D as SeparableConv2D
from kerax.layers.conv_transpose import Conv1DTranspose as Conv1DTranspose
from kerax.layers.conv_transpose import Conv2DTranspose as Conv2DTranspose
from kerax.layers.conv_transpose import Conv3DTranspose as Conv3DTranspose
from kerax.layers.core_layers import ActivityRegularization as ActivityRegularization
from kerax.layers.core_layers import Identity as Identity
from kerax.layers.core_layers import Lambda as Lambda
from kerax.layers.dense import Dense as Dense
from kerax.layers.dense import EinsumDense as EinsumDense
from kerax.layers.dot_attention import AdditiveAttention as AdditiveAttention
from kerax.layers.dot_attention import Attention as Attention
from kerax.layers.dropout import AlphaDropout as AlphaDropout
from kerax.layers.dropout import Dropout as Dropout
from kerax.layers.dropout import GaussianDropout as GaussianDropout
from kerax.layers.dropout import GaussianNoise as GaussianNoise
from kerax.layers.dropout import SpatialDropout1D as SpatialDropout1D
from kerax.layers.dropout import SpatialDropout2D as SpatialDropout2D
from kerax.layers.dropout import SpatialDropout3D as SpatialDropout3D
from kerax.layers.embedding import Embedding as Embedding
from kerax.layers.embedding import Masking as Masking
from kerax.layers.embedding import ReversibleEmbedding as ReversibleEmbedding
from kerax.layers.equalization import AutoContrast as AutoContrast
from kerax.layers.equalization import (
    ContrastLimitedAdaptiveHistogramEqualization as ContrastLimitedAdaptiveHistogramEqualization,
)
from kerax.layers.equalization import Equalization as Equalization
from kerax.layers.foreign import FlaxLayer as FlaxLayer
from kerax.layers.foreign import JaxLayer as JaxLayer
from kerax.layers.grouped_attention import GroupQueryAttention as GroupQueryAttention
from kerax.layers.hashing import HashedCrossing as HashedCrossing
from kerax.layers.hashing import Hashing as Hashing
from kerax.layers.image import CenterCrop as CenterCrop
from kerax.layers.image import RandomCrop as RandomCrop
from kerax.layers.image import Resizing as Resizing
from kerax.layers.input_layer import Input as Input
from kerax.layers.input_layer import InputLayer as InputLayer
from kerax.layers.lookup import IntegerLookup as IntegerLookup
from kerax.layers.lookup import StringLookup as StringLookup
from kerax.layers.merging import Add as Add
from kerax.layers.merging import Average as Average
from kerax.layers.merging import Concatenate as Concatenate
from kerax.layers.merging import Dot as Dot
from kerax.layers.merging import Maximum as Maximum
from kerax.layers.merging import Minimum as Minimum
from kerax.layers.merging import Multiply as Multiply
from kerax.layers.merging import Subtract as Subtract
from kerax.layers.merging import add as add
from kerax.layers.merging import average as average
from kerax.layers.merging import concatenate as concatenate
from kerax.layers.merging import dot as dot
from kerax.layers.merging import maximum as maximum
from kerax.layers.merging import minimum as minimum
from kerax.layers.merging import multiply as multiply
from kerax.layers.merging import subtract as subtract
from kerax.layers.mixing import AugMix as AugMix
from kerax.layers.mixing import CutMix as CutMix
from kerax.layers.mixing import MaxNumBoundingBoxes as MaxNumBoundingBoxes
from kerax.layers.mixing import MixUp as MixUp
from kerax.layers.mixing import Pipeline as Pipeline
from kerax.layers.mixing import RandAugment as RandAugment
from kerax.layers.normalization import BatchNormalization as BatchNormalization
from kerax.layers.normalization import GroupNormalization as GroupNormalization
from kerax.layers.normalization import LayerNormalization as LayerNormalization
from kerax.layers.normalization import RMSNormalization as RMSNormalization
from kerax.layers.normalization import UnitNormalization as UnitNormalization
from kerax.layers.padding import Cropping1D as Cropping1D
from kerax.layers.padding import Cropping2D as Cropping2D
from kerax.layers.padding import Cropping3D as Cropping3D
from kerax.layers.padding import UpSampling1D as UpSampling1D
from kerax.layers.padding import UpSampling2D as UpSampling2D
from kerax.layers.padding import UpSampling3D as UpSampling3D
from kerax.layers.padding import ZeroPadding1D as ZeroPadding1D
from kerax.layers.padding import ZeroPadding2D as ZeroPadding2D
from kerax.layers.padding import ZeroPadding3D as ZeroPadding3D
from kerax.layers.patches import ReconstructPatches2D as ReconstructPatches2D
from kerax.layers.patches import ReconstructPatches3D as ReconstructPatches3D
from kerax.layers.pooling import AdaptiveAveragePooling1D as AdaptiveAveragePooling1D
from kerax.layers.pooling import AdaptiveAveragePooling2D as AdaptiveAveragePooling2D
from kerax.layers.pooling import AdaptiveAveragePooling3D as AdaptiveAveragePooling3D
from kerax.layers.pooling import AdaptiveMaxPooling1D as AdaptiveMaxPooling1D
from kerax.layers.pooling import AdaptiveMaxPooling2D as AdaptiveMaxPooling2D
from kerax.layers.pooling import AdaptiveMaxPooling3D as AdaptiveMaxPooling3D
from kerax.layers.pooling import AveragePooling1D as AveragePooling1D
from kerax.layers.pooling import AveragePooling2D as AveragePooling2D
from kerax.layers.pooling import AveragePooling3D as AveragePooling3D
from kerax.layers.pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from kerax.layers.pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from kerax.layers.pooling import GlobalAveragePooling3D as GlobalAveragePooling3D
from kerax.layers.pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from kerax.layers.pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from kerax.layers.pooling import GlobalMaxPooling3D as GlobalMaxPooling3D
from kerax.layers.pooling import MaxPooling1D as MaxPooling1D
from kerax.layers.pooling import MaxPooling2D as MaxPooling2D
from kerax.layers.pooling import MaxPooling3D as MaxPooling3D
from kerax.layers.positions import PositionEmbedding as PositionEmbedding
from kerax.layers.positions import RotaryEmbedding as RotaryEmbedding
from kerax.layers.positions import SinePositionEncoding as SinePositionEncoding
from kerax.layers.preprocessing import Normalization as Normalization
from kerax.layers.preprocessing import Rescaling as Rescaling
from kerax.layers.recurrent import GRU as GRU
from kerax.layers.recurrent import LSTM as LSTM
from kerax.layers.recurrent import SimpleRNN as SimpleRNN
from kerax.layers.reshaping import Flatten as Flatten
from kerax.layers.reshaping import Permute as Permute
from kerax.layers.reshaping import RepeatVector as RepeatVector
from kerax.layers.reshaping import Reshape as Reshape
from kerax.layers.rnn import RNN as RNN
from kerax.layers.rnn import Bidirectional as Bidirectional
from kerax.layers.stack import Stack as Stack
from kerax.layers.ternary import TernaryDense as TernaryDense
from kerax.layers.text import TextVectorization as TextVectorization
from kerax.layers.transformer import DecoderBlock as DecoderBlock
from kerax.layers.transformer import EncoderBlock as EncoderBlock
from kerax.layers.transformer import FeedForward as FeedForward
from kerax.layers.transformer import GatedFeedForward as GatedFeedForward
from kerax.layers.wrappers import SpectralNormalization as SpectralNormalization
from kerax.layers.wrappers import TimeDistributed as TimeDistributed
from kerax.layers.wrappers import Wrapper as Wrapper

AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
get = _LAYERS.get


def serialize(layer: Any) -> dict:
    """A JSON-able description."""
    return _serialize(layer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """The layer that `serialize` described."""
    return _deserialize(config, custom_objects)
