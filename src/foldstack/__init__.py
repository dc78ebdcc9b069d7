"""foldstack: from three CSV files to a text-classification submission one can believe."""

__version__ = "0.1.0"
