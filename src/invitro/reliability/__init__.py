"""Who agrees with whom: the crowd, the LLMs, their prompts."""
