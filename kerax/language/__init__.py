"""Language models: checkpoints of Hugging Face's form, tokenizers, fine-tuning, perplexity."""

from kerax.language.adapters import enable_lora as enable_lora
from kerax.language.adapters import load_adapter as load_adapter
from kerax.language.adapters import merge_lora as merge_lora
from kerax.language.adapters import save_adapter as save_adapter
from kerax.language.checkpoints import create as create
from kerax.language.checkpoints import load as load
from kerax.language.checkpoints import save as save
from kerax.language.data import Example as Example
from kerax.language.data import encode_example as encode_example
from kerax.language.data import pack as pack
from kerax.language.data import read_examples as read_examples
from kerax.language.engine import Engine as Engine
from kerax.language.evaluation import harness_model as harness_model
from kerax.language.models import Decoder as Decoder
from kerax.language.models import Encoder as Encoder
from kerax.language.scoring import DirectPreference as DirectPreference
from kerax.language.scoring import pairs as pairs
from kerax.language.scoring import perplexity as perplexity
from kerax.language.tokenizer import Tokenizer as Tokenizer
