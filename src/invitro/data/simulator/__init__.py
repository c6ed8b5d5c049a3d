"""The simulator: texts whose truth is known, rated by a crowd and by an LLM that err in different ways."""
