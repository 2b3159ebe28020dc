"""Layers: one family per file, under Keras's names."""

from kerax.core.input_spec import InputSpec as InputSpec
from kerax.core.layer import LAYERS as _LAYERS
from kerax.core.layer import Layer as Layer
from kerax.core.registry import deserialize_keras_object, serialize_keras_object
from kerax.layers.activation import ELU as ELU
from kerax.layers.activation import Activation as Activation
from kerax.layers.activation import LeakyReLU as LeakyReLU
from kerax.layers.activation import PReLU as PReLU
from kerax.layers.activation import ReLU as ReLU
from kerax.layers.activation import Softmax as Softmax
from kerax.layers.attention import MultiHeadAttention as MultiHeadAttention
from kerax.layers.cells import GRUCell as GRUCell
from kerax.layers.cells import LSTMCell as LSTMCell
from kerax.layers.cells import SimpleRNNCell as SimpleRNNCell
from kerax.layers.cells import StackedRNNCells as StackedRNNCells
from kerax.layers.conv import Conv1D as Conv1D
from kerax.layers.conv import Conv2D as Conv2D
from kerax.layers.core_layers import Identity as Identity
from kerax.layers.core_layers import Lambda as Lambda
from kerax.layers.core_layers import TimeDistributed as TimeDistributed
from kerax.layers.core_layers import Wrapper as Wrapper
from kerax.layers.dense import Dense as Dense
from kerax.layers.dense import EinsumDense as EinsumDense
from kerax.layers.dropout import Dropout as Dropout
from kerax.layers.dropout import GaussianDropout as GaussianDropout
from kerax.layers.dropout import GaussianNoise as GaussianNoise
from kerax.layers.dropout import SpatialDropout1D as SpatialDropout1D
from kerax.layers.dropout import SpatialDropout2D as SpatialDropout2D
from kerax.layers.embedding import Embedding as Embedding
from kerax.layers.embedding import Masking as Masking
from kerax.layers.input_layer import Input as Input
from kerax.layers.input_layer import InputLayer as InputLayer
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
from kerax.layers.normalization import BatchNormalization as BatchNormalization
from kerax.layers.normalization import GroupNormalization as GroupNormalization
from kerax.layers.normalization import LayerNormalization as LayerNormalization
from kerax.layers.normalization import RMSNormalization as RMSNormalization
from kerax.layers.pooling import AveragePooling1D as AveragePooling1D
from kerax.layers.pooling import AveragePooling2D as AveragePooling2D
from kerax.layers.pooling import GlobalAveragePooling1D as GlobalAveragePooling1D
from kerax.layers.pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from kerax.layers.pooling import GlobalMaxPooling1D as GlobalMaxPooling1D
from kerax.layers.pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from kerax.layers.pooling import MaxPooling1D as MaxPooling1D
from kerax.layers.pooling import MaxPooling2D as MaxPooling2D
from kerax.layers.preprocessing import Normalization as Normalization
from kerax.layers.preprocessing import Rescaling as Rescaling
from kerax.layers.recurrent import GRU as GRU
from kerax.layers.recurrent import LSTM as LSTM
from kerax.layers.recurrent import SimpleRNN as SimpleRNN
from kerax.layers.reshaping import Flatten as Flatten
from kerax.layers.reshaping import Permute as Permute
from kerax.layers.reshaping import RepeatVector as RepeatVector
from kerax.layers.reshaping import Reshape as Reshape
from kerax.layers.reshaping import UpSampling2D as UpSampling2D
from kerax.layers.reshaping import ZeroPadding2D as ZeroPadding2D
from kerax.layers.rnn import RNN as RNN
from kerax.layers.rnn import Bidirectional as Bidirectional

AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
Convolution1D, Convolution2D = Conv1D, Conv2D
get, serialize, deserialize = _LAYERS.get, serialize_keras_object, deserialize_keras_object
