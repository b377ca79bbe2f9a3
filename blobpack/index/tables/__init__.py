"""An index as a table: of NumPy, Arrow, pandas or Parquet, in HTML, and as files of offsets."""
