from kerax.export.archive import ExportArchive as ExportArchive
from kerax.export.errors import ExportError as ExportError
