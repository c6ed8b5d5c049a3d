"""How results are written: numbers in words, tables, charts."""
