"""foldstack: from three CSV files to a text-classification submission one can believe."""
