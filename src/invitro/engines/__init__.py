"""Engines: whatever answers a request, from a scripted reply to vLLM on a cluster."""
