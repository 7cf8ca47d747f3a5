"""Table files that are not text: Parquet, Arrow, and workbooks of spreadsheet programs."""
