from .language import LanguageModel as LanguageModel
from .running import run as run
from .server import Server as Server
from .server import app as app
