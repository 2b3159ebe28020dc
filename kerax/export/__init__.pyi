from .archive import ExportArchive as ExportArchive
from .errors import ExportError as ExportError
