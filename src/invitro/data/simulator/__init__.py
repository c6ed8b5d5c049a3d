"""The simulator: texts whose truth is known, rated by a crowd that errs and an LLM that errs otherwise."""
